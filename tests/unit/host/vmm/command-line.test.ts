import assert from "node:assert/strict";
import { test } from "node:test";
import { qemuArguments } from "../../../../src/host/vmm/qemu/command-line.ts";

function argumentsUnder(
  qemuVersion: string,
  memMib = 128,
  machine: "microvm" | "q35" = "microvm",
): string {
  return qemuArguments(
    {
      id: "i-00000001",
      runDir: "/run,here",
      logDir: "/logs",
      uid: 1234,
      vcpus: 1,
      memMib,
      kernelPath: "/kernel",
      initrdPath: "/initrd",
      kernelArgs: [],
      drives: [{ id: "data", path: "/a,b/data.ext4", readOnly: false }],
      nics: [],
    },
    { accelerator: "tcg", machine, tscKhz: 1000, qemuVersion },
  ).join(" ");
}

test("QEMU is told to drop its privileges by the option its version has", () => {
  for (const version of ["7.2.22", "8.2.2", "9.0.4"]) {
    assert.match(argumentsUnder(version), / -runas 1234:1234 /);
  }
  for (const version of ["9.1.0", "10.0.2", "11.0.0"]) {
    assert.match(argumentsUnder(version), / -run-with user=1234:1234 /);
  }
});

test("a comma in a path does not begin another option", () => {
  assert.match(argumentsUnder("7.2.22"), /file\.filename=\/a,,b\/data\.ext4 /);
  assert.match(argumentsUnder("7.2.22"), /path=\/run,,here\/agent\.sock,/);
});

test("the memory never ends where the highest initrd ends, which firmware overwrites there", () => {
  assert.match(argumentsUnder("10.0.2", 2048), / -m 2049M /);
  assert.match(argumentsUnder("10.0.2", 2047), / -m 2047M /);
  assert.match(argumentsUnder("10.0.2", 4096), / -m 4096M /);
  assert.match(argumentsUnder("10.0.2", 2048, "q35"), / -m 2048M /);
});
