import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { HostExec } from "../../../src/host/exec.ts";
import { sha256OfFile } from "../../../src/host/files.ts";
import { makeExt4 } from "../../../src/image/ext4.ts";
import { packCpio } from "../../../src/image/initramfs.ts";

const run = promisify(execFile);
const exec = new HostExec();

async function makeTree(folder: string): Promise<void> {
  await mkdir(join(folder, "bin"), { recursive: true });
  await writeFile(join(folder, "bin", "program"), "#!/bin/sh\n", { mode: 0o755 });
  await writeFile(join(folder, "large"), Buffer.alloc(300_000, 7));
  await symlink("bin/program", join(folder, "link"));
  // Names that would be commands or options if any tool took them for such.
  await writeFile(join(folder, "-rf"), "");
  await writeFile(join(folder, 'a "quoted"\nsif x'), "");
  for (let n = 0; n < 300; n += 1) await writeFile(join(folder, "bin", `file-${n}`), String(n));
}

describe("an ext4 image", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-ext4-"));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it("is the same, bit for bit, for the same tree made at another time and place", async () => {
    const hashes: string[] = [];
    for (const name of ["first", "second"]) {
      const tree = join(folder, name, "tree");
      await makeTree(tree);
      await utimes(join(tree, "large"), 12_345, hashes.length + 20_000);
      const image = join(folder, name, "image");
      await makeExt4({ exec, tree, image, label: "mvm-test" });
      hashes.push(await sha256OfFile(image));
      // The clock of ext4 counts seconds.
      await delay(1100);
    }
    assert.equal(hashes[0], hashes[1]);
  });

  it("is whole and not much larger than what is in it", async () => {
    const tree = join(folder, "tree");
    await makeTree(tree);
    const image = join(folder, "image");
    await makeExt4({ exec, tree, image, label: "mvm-test" });
    await run("/usr/sbin/e2fsck", ["-fn", image]);
    const { stdout } = await run("/usr/sbin/debugfs", ["-R", "cat /bin/file-17", image]);
    assert.equal(stdout, "17");
    const { stdout: header } = await run("/usr/sbin/dumpe2fs", ["-h", image]);
    assert.match(header, /volume name:\s+mvm-test/);
    const blocks = Number(/Block count:\s+(\d+)/.exec(header)?.[1]);
    const free = Number(/Free blocks:\s+(\d+)/.exec(header)?.[1]);
    assert.ok(free < 400 && free < blocks, `${free} of ${blocks} blocks are free`);
  });

  it("changes when a file of the tree does", async () => {
    const hashes: string[] = [];
    for (const content of ["one", "two"]) {
      const tree = join(folder, content);
      await mkdir(tree);
      await writeFile(join(tree, "file"), content);
      await makeExt4({ exec, tree, image: join(folder, "image"), label: "mvm-test" });
      hashes.push(await sha256OfFile(join(folder, "image")));
    }
    assert.notEqual(hashes[0], hashes[1]);
  });
});

describe("an initramfs archive", () => {
  it("is read by cpio as it was meant", async () => {
    const folder = await mkdtemp(join(tmpdir(), "mvm-cpio-"));
    try {
      const nothing = new Uint8Array();
      const archive = packCpio([
        { name: "bin", mode: 0o040755, content: nothing },
        { name: "bin/tool", mode: 0o100755, content: Buffer.from("content") },
        { name: "bin/sh", mode: 0o120777, content: Buffer.from("tool") },
      ]);
      const result = await exec.run("cpio", ["--extract", "--make-directories"], {
        timeoutMs: 10_000,
        input: archive,
        cwd: folder,
      });
      assert.equal(result.exitCode, 0);
      const { stdout } = await run("cat", [join(folder, "bin", "sh")]);
      assert.equal(stdout, "content");
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
