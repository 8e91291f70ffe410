import assert from "node:assert/strict";
import { test } from "node:test";
import { HostLacksError, UsageError } from "../../../../src/domain/errors.ts";
import { HostExec } from "../../../../src/host/exec.ts";
import { LinuxNetwork } from "../../../../src/host/net/linux-network.ts";
import type { Exec, RunResult } from "../../../../src/ports/exec.ts";
import { tenantState } from "../../../hosts/tenant-topology.ts";

/** Runs nothing: every program is one that does not exist. */
class EmptyHostExec implements Exec {
  run(): Promise<RunResult> {
    return new HostExec().run("mvm-test-no-such-program", [], { timeoutMs: 1000 });
  }

  tryRun(): Promise<RunResult> {
    return this.run();
  }
}

const options = {
  exec: new EmptyHostExec(),
  stateDir: "/nonexistent/state",
  runDir: "/nonexistent/run",
  vmUidBase: 900_000,
};

test("a host without the tools is told which command installs them", async () => {
  await assert.rejects(
    new LinuxNetwork(options).apply([tenantState(1, [2])]),
    (error) => error instanceof HostLacksError && error.hint === "run `mvm add host`",
  );
});

test("two tenants with one network are refused before anything is done", async () => {
  await assert.rejects(
    new LinuxNetwork(options).apply([tenantState(1, [2]), tenantState(1, [3])]),
    UsageError,
  );
});
