import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { NotFoundError, OperationError, UsageError } from "../../../src/domain/errors.ts";
import { copyFlake, findFlake, readProfiles } from "../../../src/image/flake-source.ts";

describe("a flake in a folder", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-flake-"));
    await writeFile(join(folder, "flake.nix"), "{ outputs = _: { }; }");
  });
  afterEach(() => rm(folder, { recursive: true }));

  const source = (): Parameters<typeof copyFlake>[0] => ({
    flakeRef: folder,
    folder,
    url: `path:${folder}`,
  });
  const target = (): string => join(folder, ".git", "copy");

  const outside = ["/etc/passwd", "../secret", "sub/../../secret", ".."];
  for (const link of outside) {
    it(`is refused with a link to ${link}, and what that leads to is not copied`, async () => {
      await symlink(link, join(folder, "link"));
      await assert.rejects(copyFlake(source(), target()), (error) => {
        assert.ok(error instanceof UsageError);
        assert.match(error.message, /link is a link out of the flake, to /);
        return true;
      });
    });
  }

  it("may have links to what is in it, which stay links", async () => {
    await mkdir(join(folder, "sub"));
    await symlink("../flake.nix", join(folder, "sub", "link"));
    await mkdir(dirname(target()));
    await copyFlake(source(), target());
    assert.equal(await readlink(join(target(), "sub", "link")), "../flake.nix");
    assert.equal(await readFile(join(target(), "sub", "link"), "utf8"), "{ outputs = _: { }; }");
  });

  it("has mvm-profiles.toml as a plain file of a bounded size, or none", async () => {
    assert.deepEqual(await readProfiles(folder), {});
    const path = join(folder, "mvm-profiles.toml");
    await symlink("flake.nix", path);
    await assert.rejects(readProfiles(folder), /is not a plain file/);
    await rm(path);
    await writeFile(path, "#".repeat(256 * 1024 + 1));
    await assert.rejects(readProfiles(folder), /is larger than 262144 bytes/);
  });

  it("is named by what it is when it is not there, or is of a kind that is not fetched", async () => {
    const wrong = [
      ["builtin:nothing", NotFoundError],
      ["/nonexistent", NotFoundError],
      [`path:${folder}?dir=x`, UsageError],
      ["hello", UsageError],
      ["../hello", UsageError],
      ["git+ssh://example.com/x", OperationError],
    ] as const;
    for (const [reference, kind] of wrong) {
      await assert.rejects(findFlake(reference, folder), kind, reference);
    }
  });
});
