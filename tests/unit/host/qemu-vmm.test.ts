import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import type { VmmSpec } from "../../../src/ports/vmm.ts";
import { TemporaryRoots } from "../../builders/temporary-roots.ts";

const driver = new URL("../../../src/host/vmm/qemu/qemu-vmm.ts", import.meta.url).href;
/** QEMU is given 20 s to run; a process that still waited for it would end after that. */
const soonMs = 12_000;

test("a VMM that failed at once is not waited for any longer", async () => {
  await using roots = await TemporaryRoots.make();
  const missing = join(roots.folder, "missing");
  const spec: VmmSpec = {
    id: "i-00000001",
    runDir: roots.runDir,
    logDir: join(roots.folder, "logs"),
    // QEMU refuses it at once, before it makes its sockets: nothing there answers or breaks off.
    uid: -1,
    vcpus: 1,
    memMib: 64,
    kernelPath: missing,
    initrdPath: missing,
    kernelArgs: [],
    drives: [],
    nics: [],
  };
  const platform = { accelerator: "tcg", machine: "q35", tscKhz: null, qemuVersion: "" };
  // A process of its own, since the question is when it ends. It fails with or without a QEMU here.
  const program = `
    const { QemuVmm } = await import(${JSON.stringify(driver)});
    const vmm = new QemuVmm(async () => (${JSON.stringify(platform)}));
    await vmm.start(${JSON.stringify(spec)}).catch((error) => console.log(error.name));
  `;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--input-type=module", "--eval", program],
    { timeout: soonMs },
  );
  assert.match(stdout, /^(?:OperationError|HostLacksError)\n$/);
});
