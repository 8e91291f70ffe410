import assert from "node:assert/strict";
import { mkdir, mkdtemp, realpath, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { UsageError } from "../../../src/domain/errors.ts";
import { parseInstanceAddress } from "../../../src/domain/ids.ts";
import { instanceFolder, instanceRunRoot, rootsFromEnvironment } from "../../../src/host/roots.ts";

test("a node lives in the usual places unless the environment says otherwise", () => {
  assert.deepEqual(rootsFromEnvironment({}), {
    stateDir: "/var/lib/mvm",
    configDir: "/etc/mvm",
    runDir: "/run/mvm",
  });
  const env = { MVM_STATE_DIR: "/a", MVM_CONFIG_DIR: "/b", MVM_RUN_DIR: "/c" };
  assert.deepEqual(rootsFromEnvironment(env), { stateDir: "/a", configDir: "/b", runDir: "/c" });
});

for (const name of ["MVM_STATE_DIR", "MVM_CONFIG_DIR", "MVM_RUN_DIR"]) {
  test(`${name} must be an absolute path`, () => {
    for (const path of ["state", "./state", ""]) {
      assert.throws(() => rootsFromEnvironment({ [name]: path }), UsageError);
    }
  });
}

test("a run folder has at most 80 bytes, so that an instance's sockets fit the kernel's 107", () => {
  const longest = `/${"r".repeat(79)}`;
  const roots = rootsFromEnvironment({ MVM_RUN_DIR: longest });
  const socket = `${instanceRunRoot(roots)}/i-00000001/agent.sock`;
  assert.ok(Buffer.byteLength(socket) <= 107, socket);
  assert.throws(() => rootsFromEnvironment({ MVM_RUN_DIR: `${longest}r` }), UsageError);
  // Bytes count, not letters.
  assert.throws(() => rootsFromEnvironment({ MVM_RUN_DIR: `/${"ä".repeat(40)}` }), UsageError);
});

test("a run folder below a link is named as the kernel names it, whether it is there or not", async () => {
  const folder = await realpath(await mkdtemp(join(tmpdir(), "mvm-roots-")));
  try {
    await mkdir(join(folder, "real"));
    await symlink("real", join(folder, "link"));
    for (const [given, real] of [
      ["link", "real"],
      ["link/run", "real/run"],
      ["link/not/yet/../there", "real/not/there"],
      ["real/", "real"],
    ] as const) {
      const { runDir } = rootsFromEnvironment({ MVM_RUN_DIR: `${folder}/${given}` });
      assert.equal(runDir, `${folder}/${real}`);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("an instance's folder lies in its pool's and its tenant's", () => {
  const folder = instanceFolder(
    rootsFromEnvironment({ MVM_STATE_DIR: "/s" }),
    parseInstanceAddress("acme/web/i-00000001"),
  );
  assert.equal(folder, "/s/tenants/acme/pools/web/instances/i-00000001");
});
