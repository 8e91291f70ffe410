import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, rm, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { UsageError } from "../../../src/domain/errors.ts";
import { narHash } from "../../../src/image/nar.ts";

describe("the NAR hash of a tree", () => {
  let root: string;
  beforeEach(async () => {
    root = join(await mkdtemp(join(tmpdir(), "mvm-nar-")), "tree");
    await mkdir(join(root, "lib", "deep"), { recursive: true });
    await writeFile(join(root, "lib", "deep", "a"), "content\n");
    await writeFile(join(root, "lib", "program"), "#!/bin/sh\n", { mode: 0o755 });
    await writeFile(join(root, "lib-x"), "");
    await symlink("../lib/program", join(root, "lib", "link"));
  });
  afterEach(() => rm(join(root, ".."), { recursive: true }));

  it("is the one that Nix computes", async () => {
    // By another implementation, which was held against store paths of Nix; builds hold this one against it too.
    assert.equal(await narHash(root), "sha256-/thHHWlV4LOPqEerkmAAP/+y/8AVJftn347LLWsyyao=");
    assert.equal(
      await narHash(join(root, "lib", "deep", "a")),
      "sha256-HiT4BBF+4J/jUfTDoObCA/+6FONPFO70nblRhbAcci4=",
    );
  });

  it("does not hang on times, on places, nor on modes but the executable bit", async () => {
    const before = await narHash(root);
    await utimes(join(root, "lib-x"), 1, 2);
    await chmod(join(root, "lib-x"), 0o600);
    await chmod(join(root, "lib"), 0o700);
    assert.equal(await narHash(root), before);
    await chmod(join(root, "lib-x"), 0o755);
    assert.notEqual(await narHash(root), before);
  });

  it("changes with a name, a content and a link", async () => {
    const seen = new Set([await narHash(root)]);
    await writeFile(join(root, "lib-x"), "x");
    seen.add(await narHash(root));
    await rm(join(root, "lib", "link"));
    await symlink("program", join(root, "lib", "link"));
    seen.add(await narHash(root));
    await mkdir(join(root, "lib-y"));
    seen.add(await narHash(root));
    assert.equal(seen.size, 4);
  });

  it("leaves out what it is told to", async () => {
    const before = await narHash(root);
    await mkdir(join(root, ".git"));
    await writeFile(join(root, ".git", "HEAD"), "x");
    assert.notEqual(await narHash(root), before);
    assert.equal(await narHash(root, { leaveOut: (name) => name === ".git" }), before);
  });

  it("is refused for a tree that no flake would be", async () => {
    await writeFile(join(root, "sparse"), "");
    await truncate(join(root, "sparse"), 100 * 1024 ** 3);
    await assert.rejects(narHash(root), UsageError);
  });
});
