import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, it } from "node:test";
import { HostExec } from "../../../../src/host/exec.ts";
import { unpackPackages, type DebianPackage } from "../../../../src/host/payloads/packages.ts";

describe("packages that are unpacked over each other", () => {
  const exec = new HostExec();
  let folder: string;
  let tree: string;

  const packageOf = async (
    name: string,
    files: Readonly<Record<string, string>>,
    links: Readonly<Record<string, string>> = {},
  ): Promise<DebianPackage> => {
    const source = join(folder, name);
    const control = `Package: ${name}\nVersion: 1\nArchitecture: all\nMaintainer: test <test@localhost>\nDescription: test\n`;
    const place = async (path: string): Promise<string> => {
      await mkdir(dirname(join(source, path)), { recursive: true });
      return join(source, path);
    };
    await writeFile(await place("DEBIAN/control"), control);
    for (const [path, text] of Object.entries(files)) await writeFile(await place(path), text);
    for (const [path, to] of Object.entries(links)) await symlink(to, await place(path));
    const path = join(folder, `${name}.deb`);
    await exec.run("dpkg-deb", ["--build", "--root-owner-group", source, path], {
      timeoutMs: 20_000,
    });
    return { name, version: "1", sha256: "", path };
  };

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-packages-"));
    tree = join(folder, "tree");
    const old = await packageOf(
      "old",
      { "bin/busybox": "busybox", "lib/x/libc.so": "libc", "lib64/ld.so": "ld" },
      { "bin/tool": "/usr/bin/tool" },
    );
    const merged = await packageOf("merged", { "usr/bin/tool": "tool", "usr/lib/x/libz.so": "z" });
    await unpackPackages(exec, [old, merged], tree);
  });

  after(async () => {
    await rm(folder, { recursive: true });
  });

  it("have the links of a system, whichever layout they were made for", async () => {
    for (const name of ["bin", "lib", "lib64"]) {
      assert.equal(await readlink(join(tree, name)), `usr/${name}`);
    }
    for (const [path, text] of Object.entries({
      "usr/bin/busybox": "busybox",
      "bin/busybox": "busybox",
      "lib/x/libc.so": "libc",
      "lib/x/libz.so": "z",
      "lib64/ld.so": "ld",
    })) {
      assert.equal(await readFile(join(tree, path), "utf8"), text, path);
    }
  });

  it("keep a program where an older package has a link to it", async () => {
    assert.equal(await readFile(join(tree, "usr/bin/tool"), "utf8"), "tool");
  });
});
