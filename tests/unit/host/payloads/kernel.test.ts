import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { zstdCompressSync } from "node:zlib";
import { HostExec } from "../../../../src/host/exec.ts";
import { placeModule } from "../../../../src/host/payloads/kernel.ts";

describe("a kernel module", () => {
  const exec = new HostExec();
  let folder: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-module-"));
  });

  after(async () => {
    await rm(folder, { recursive: true });
  });

  const placed = async (name: string, packed: Uint8Array): Promise<string> => {
    const target = join(folder, "placed.ko");
    await rm(target, { force: true });
    await writeFile(join(folder, name), packed);
    await placeModule(exec, join(folder, name), target);
    return readFile(target, "utf8");
  };

  it("is placed as it is when it is plain", async () => {
    assert.equal(await placed("a.ko", Buffer.from("module")), "module");
  });

  it("is unpacked when it is packed with zstd, as Ubuntu does", async () => {
    assert.equal(await placed("b.ko.zst", zstdCompressSync(Buffer.from("module"))), "module");
  });

  it("is unpacked when it is packed with xz, as Debian 13 does", async (context) => {
    if ((await exec.tryRun("sh", ["-c", "command -v xz"], { timeoutMs: 5000 })).exitCode !== 0) {
      context.skip("xz is not installed");
      return;
    }
    await writeFile(join(folder, "c.ko"), "module");
    await exec.run("xz", ["--keep", join(folder, "c.ko")], { timeoutMs: 5000 });
    assert.equal(await placed("d.ko.xz", await readFile(join(folder, "c.ko.xz"))), "module");
  });
});
