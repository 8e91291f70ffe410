import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { HostLacksError, OperationError } from "../../../src/domain/errors.ts";
import {
  readPlatformIfWhole,
  requirePlatform,
  writePlatform,
} from "../../../src/host/setup/platform-file.ts";
import type { QemuPlatform } from "../../../src/host/vmm/qemu/platform.ts";
import { TemporaryRoots } from "../../builders/temporary-roots.ts";

const platform: QemuPlatform = {
  accelerator: "kvm",
  machine: "microvm",
  tscKhz: null,
  qemuVersion: "7.2.22",
};
const hint = "run `mvm add host`";

test("a machine that was never probed lacks what guests need", async () => {
  await using roots = await TemporaryRoots.make();
  await assert.rejects(
    requirePlatform(roots.stateDir),
    (error) => error instanceof HostLacksError && error.hint === hint,
  );
});

for (const [what, content] of [
  ["cut short", '{"schema_version": 1, "qemu'],
  ["empty", ""],
  ["of another form", '{"schema_version": 1, "qemu": {}}'],
] as const) {
  test(`a finding that is ${what} is reported, and found out anew`, async () => {
    await using roots = await TemporaryRoots.make();
    await mkdir(roots.stateDir, { recursive: true });
    await writeFile(join(roots.stateDir, "host.json"), content);
    await assert.rejects(requirePlatform(roots.stateDir), (error) => {
      assert.ok(error instanceof OperationError);
      assert.match(error.message, /host\.json is corrupt$/);
      return error.hint === hint;
    });
    assert.equal(await readPlatformIfWhole(roots.stateDir), undefined);
    await writePlatform(roots.stateDir, platform, 0);
    assert.deepEqual(await requirePlatform(roots.stateDir), platform);
  });
}
