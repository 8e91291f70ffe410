import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { HostExec } from "../../../src/host/exec.ts";
import { isSystemdBooted, noScope, systemdScope } from "../../../src/host/own-scope.ts";

test("on a machine with systemd a VMM is started in a scope of its own in mvm-vm.slice", () => {
  const words = systemdScope("mvm-vm-i-0000000a");
  assert.equal(words[0], "systemd-run");
  for (const word of ["--scope", "--collect", "--slice=mvm-vm.slice"]) {
    assert.ok(words.includes(word), word);
  }
  assert.equal(words.at(-1), "--", "what follows is the command, whatever it is");
  const unit = words.find((word) => word.startsWith("--unit="));
  assert.match(unit ?? "", /^--unit=mvm-vm-i-0000000a-[0-9a-f]{8}$/);
});

test("two starts of one instance never ask for one unit", () => {
  const units = Array.from({ length: 20 }, () => systemdScope("mvm-vm-i-0000000a").join(" "));
  assert.equal(new Set(units).size, units.length);
});

test("a name that is no name of a unit becomes one", () => {
  const unit = systemdScope("mvm-dns-1/../x y").find((word) => word.startsWith("--unit="));
  assert.match(unit ?? "", /^--unit=mvm-dns-1-\.\.-x-y-[0-9a-f]{8}$/);
});

test("without systemd nothing is put in front of a command", () => {
  assert.deepEqual(noScope("mvm-vm-i-0000000a"), []);
});

test("systemd counts as there when it is the service manager, and not when it is only installed", async () => {
  const folder = await mkdtemp(join(tmpdir(), "mvm-booted-"));
  try {
    assert.equal(isSystemdBooted(folder), true);
    assert.equal(isSystemdBooted(join(folder, "none")), false);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("the command behind the words of a scope runs as it is", async () => {
  const folder = await mkdtemp(join(tmpdir(), "mvm-scope-"));
  try {
    // A stand-in for systemd-run: it leaves out its options and becomes the command.
    const standIn = join(folder, "systemd-run");
    const script = '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n';
    await writeFile(standIn, script, { mode: 0o755 });
    const [, ...options] = systemdScope("mvm-vm-i-0000000a");
    const { stdout } = await new HostExec().run(standIn, [...options, "echo", "--", "a b"], {
      timeoutMs: 10_000,
    });
    assert.equal(stdout, "-- a b\n");
  } finally {
    await rm(folder, { recursive: true });
  }
});
