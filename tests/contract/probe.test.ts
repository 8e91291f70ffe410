import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { HostExec } from "../../src/host/exec.ts";
import { readPlatform } from "../../src/host/setup/platform-file.ts";
import { probePlatform } from "../../src/host/vmm/qemu/probe.ts";
import { QemuVmm } from "../../src/host/vmm/qemu/qemu-vmm.ts";
import { vmUids } from "../../src/host/vmm/uids.ts";
import { freshRoots } from "../test-host.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";

test("the probe finds a way to run guests here, and leaves nothing", { skip }, async () => {
  await using roots = await freshRoots();
  const runDir = join(roots.runDir, "probe");
  const progress: string[] = [];
  const found = await probePlatform({
    kernelPath: join(roots.stateDir, "payloads", "kernel", "vmlinuz"),
    initrdPath: join(roots.stateDir, "payloads", "probe-initrd"),
    runDir,
    uid: vmUids.builder,
    exec: new HostExec(),
    onProgress: (line) => progress.push(line),
  });
  // Whether the TSC is believed, and so the machine type, may depend on how busy the host is.
  const kept = await readPlatform(roots.stateDir);
  assert.equal(found.accelerator, kept?.accelerator);
  assert.equal(found.qemuVersion, kept?.qemuVersion);
  assert.ok(progress.length > 0);
  assert.deepEqual(await readdir(runDir), []);
  const vmm = new QemuVmm(() => Promise.resolve(found));
  assert.deepEqual(await vmm.list(runDir), []);
});
