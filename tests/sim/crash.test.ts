import assert from "node:assert/strict";
import { test } from "node:test";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { findTemplate } from "../../src/domain/templates.ts";
import { deployTemplate } from "../../src/node/deploy.ts";
import { scalePool } from "../../src/node/pools.ts";
import { destroyTenant } from "../../src/node/tenants.ts";
import { CrashError, FakeHost } from "../fakes/fake-host.ts";
import {
  assertAuditWhole,
  assertAudited,
  assertConverged,
  assertNothingLeaked,
} from "./checkers.ts";

const tenant = parseTenantId("demo");
const request = { tenant, template: findTemplate("openclaw") };
const workers = { tenant, pool: parsePoolId("workers") };

type Command = (host: FakeHost) => Promise<unknown>;

const deploy: Command = (host) => deployTemplate(host.context(), request);
const scaleDown: Command = (host) => scalePool(host.context(), workers, { running: 0, warm: 1 });
const destroy: Command = (host) =>
  destroyTenant(host.context(), tenant, { force: true, wipe: true });

/** Runs a command in a process that dies at the given call. @returns whether it came that far. */
async function dieAt(
  host: FakeHost,
  command: Command,
  call: number,
  when: "crash-before" | "crash-after",
): Promise<boolean> {
  const first = host.calls.length;
  host.fault = () => (host.calls.length - first === call ? when : "none");
  try {
    await command(host);
    return false;
  } catch (error) {
    if (error instanceof CrashError) return true;
    throw error;
  } finally {
    host.fault = () => "none";
  }
}

async function deployed(): Promise<FakeHost> {
  const host = new FakeHost();
  await deploy(host);
  return host;
}

/** Kills the command at every call of every port, once before it and once after, and checks what the same command makes of it. */
async function killEverywhere(
  prepare: () => Promise<FakeHost>,
  command: Command,
  check: (host: FakeHost, seed: string) => void,
): Promise<number> {
  let kills = 0;
  for (const when of ["crash-before", "crash-after"] as const) {
    for (let call = 1; ; call += 1) {
      const seed = `${when} call ${call}`;
      const host = await prepare();
      if (!(await dieAt(host, command, call, when))) break;
      kills += 1;
      assert.deepEqual(host.violations, [], seed);
      await assertAudited(host, seed);
      try {
        await command(host);
      } catch (error) {
        // The tenant was gone already when the process died after its last step.
        if (!(error instanceof Error) || error.name !== "NotFoundError") throw error;
      }
      check(host, seed);
      await assertAuditWhole(host, seed);
    }
  }
  return kills;
}

test("a deployment converges and leaks nothing", async () => {
  const host = await deployed();
  assertConverged(host, "no fault");
  assert.equal(host.living().length, 4);
});

test("a second deploy of a converged deployment changes nothing", async () => {
  const host = await deployed();
  const before = host.calls.length;
  await deploy(host);
  const again = host.calls.slice(before);
  assert.deepEqual(
    again.filter((call) =>
      /vmm\.start|vmm\.stop|store\.save|network\.apply|builder\.build/.test(call),
    ),
    [],
  );
});

test("a deployment killed at any call of any port goes on and converges", async () => {
  const kills = await killEverywhere(async () => new FakeHost(), deploy, assertConverged);
  assert.ok(kills > 200, `${kills} kills`);
});

test("a scale killed at any call goes on and converges", async () => {
  const kills = await killEverywhere(deployed, scaleDown, assertConverged);
  assert.ok(kills > 50, `${kills} kills`);
});

test("a destroy killed at any call ends with nothing left", async () => {
  const kills = await killEverywhere(deployed, destroy, (host, seed) => {
    assertNothingLeaked(host, seed);
    assert.deepEqual(host.records().tenants, [], seed);
    assert.equal(host.bridges.size, 0, seed);
    assert.equal(host.volumes.size, 0, seed);
  });
  assert.ok(kills > 50, `${kills} kills`);
});

test("a reboot of the host is recovered from by the next command", async () => {
  const host = await deployed();
  host.reboot();
  await deploy(host);
  assertConverged(host, "reboot");
});
