import assert from "node:assert/strict";
import { mkdir, mkdtemp, open, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { HostExec } from "../../../src/host/exec.ts";
import { checkExt4, checkKernel } from "../../../src/image/complete-image.ts";
import { makeExt4 } from "../../../src/image/ext4.ts";

describe("a complete image that a flake made", () => {
  let folder: string;
  let image: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-complete-"));
    image = join(folder, "rootfs.ext4");
    await mkdir(join(folder, "tree"));
    const exec = new HostExec();
    await makeExt4({ exec, tree: join(folder, "tree"), image, label: "test" });
  });
  afterEach(() => rm(folder, { recursive: true }));

  it("may have any ext4 as its root file system", async () => {
    await checkExt4(image);
  });

  it("is refused when its root file system is none", async () => {
    await writeFile(image, Buffer.alloc(8192, "x"));
    await assert.rejects(checkExt4(image), /no ext4 file system/);
    await writeFile(image, "short");
    await assert.rejects(checkExt4(image), /too small/);
  });

  it("is refused when its root file system says that it is larger than the file", async () => {
    await truncate(image, 64 * 1024);
    await assert.rejects(checkExt4(image), /fits into its 65536 bytes/);
  });

  it("is refused when its root file system has blocks of an impossible size", async () => {
    const file = await open(image, "r+");
    // s_log_block_size
    await file.write(Buffer.from([0xff, 0xff, 0xff, 0xff]), 0, 4, 1024 + 0x18);
    await file.close();
    await assert.rejects(checkExt4(image), /fits into/);
  });

  it("has a kernel that is a bzImage or an ELF file", async () => {
    const kernel = join(folder, "kernel");
    const bytes = Buffer.alloc(4096);
    await writeFile(kernel, bytes);
    await assert.rejects(checkKernel(kernel), /neither a bzImage nor an ELF/);
    bytes.write("HdrS", 0x202);
    await writeFile(kernel, bytes);
    await checkKernel(kernel);
    await writeFile(kernel, "\u007fELF and more");
    await checkKernel(kernel);
    await writeFile(kernel, "");
    await assert.rejects(checkKernel(kernel), /neither a bzImage nor an ELF/);
  });
});
