import assert from "node:assert/strict";
import { describe, it, test } from "node:test";
import { nodeLog } from "../../src/domain/audit.ts";
import { HostLacksError, hintOf } from "../../src/domain/errors.ts";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf } from "../../src/domain/instance.ts";
import { promiseNames, waivablePromises } from "../../src/domain/production.ts";
import { findTemplate } from "../../src/domain/templates.ts";
import { deployTemplate } from "../../src/node/deploy.ts";
import { lastEvents } from "../../src/node/events.ts";
import { operatorStart, operatorStop } from "../../src/node/instances.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import { scalePool } from "../../src/node/pools.ts";
import { announceProduction } from "../../src/node/production.ts";
import { FakeHost } from "../fakes/fake-host.ts";
import { assertNothingLeaked } from "./checkers.ts";
import { withStatus } from "./hello-pool.ts";

const tenant = parseTenantId("demo");
const workers = { tenant, pool: parsePoolId("workers") };
const hourMs = 3_600_000;

/** A node of production that keeps every promise, with instances that run and one that was stopped. */
async function deployed(): Promise<FakeHost> {
  const host = new FakeHost();
  host.production = true;
  await deployTemplate(host.context(), { tenant, template: findTemplate("openclaw") });
  await operatorStop(host.context(), addressOf(withStatus(host, "running")));
  return host;
}

async function start(host: FakeHost): Promise<void> {
  await operatorStart(host.context(), addressOf(withStatus(host, "stopped")));
}

async function events(host: FakeHost, log: typeof tenant | typeof nodeLog, type: string) {
  const entries = await lastEvents(host.context(), log, 1000);
  return entries.filter((entry) => entry.type === type);
}

test("in production an instance starts where every promise is kept", async () => {
  const host = await deployed();
  await start(host);
  assert.equal((await events(host, tenant, "StartRefused")).length, 0);
});

for (const promise of promiseNames) {
  describe(`a node of production that lacks ${promise}`, () => {
    it("refuses to start, names it, writes it down, and leaves alone what runs", async () => {
      const host = await deployed();
      const before = host.living().map(({ pid }) => pid);
      host.unkept.set(promise, "not on this host");
      await assert.rejects(start(host), (error) => {
        assert.ok(error instanceof HostLacksError);
        assert.match(error.message, new RegExp(`${promise} \\(not on this host\\)`));
        assert.match(hintOf(error) ?? "", /mvm doctor/);
        return true;
      });
      assert.deepEqual(
        host.living().map(({ pid }) => pid),
        before,
      );
      const [refusal, ...others] = await events(host, tenant, "StartRefused");
      assert.deepEqual(others, []);
      assert.deepEqual(refusal?.fields["promises"], [promise]);
      assert.match(refusal?.object ?? "", /^demo\//);
      assertNothingLeaked(host, promise);
    });

    const isWaivable = waivablePromises.includes(promise);
    it(isWaivable ? "starts with a waiver" : "refuses in spite of a waiver", async () => {
      const host = await deployed();
      host.unkept.set(promise, "not on this host");
      host.waivers = [{ promise, reason: "a test", untilMs: host.nowMs + hourMs }];
      if (isWaivable) await start(host);
      else await assert.rejects(start(host), new RegExp(promise));
    });
  });
}

test("a waiver that ends stops new starts, by the clock alone, and kills nothing", async () => {
  const host = await deployed();
  host.unkept.set("cgroup-v2", "none here");
  host.waivers = [{ promise: "cgroup-v2", reason: "a test", untilMs: host.nowMs + hourMs }];
  // One process over the end, as a daemon is.
  const context = host.context();
  const instance = addressOf(withStatus(host, "stopped"));
  await operatorStart(context, instance);
  await operatorStop(context, instance);
  const before = host.living().map(({ pid }) => pid);
  assert.ok(before.length > 0);
  host.nowMs += hourMs;
  await assert.rejects(operatorStart(context, instance), /cgroup-v2 .*its waiver ended at /);
  await assert.rejects(operatorStart(host.context(), instance), HostLacksError);
  assert.deepEqual(
    host.living().map(({ pid }) => pid),
    before,
  );
});

test("a host that loses a promise while a daemon runs starts nothing from then on", async () => {
  const host = await deployed();
  const context = host.context();
  const instance = addressOf(withStatus(host, "stopped"));
  await operatorStart(context, instance);
  await operatorStop(context, instance);
  host.unkept.set("no-plain-swap", "plain swap: /swapfile");
  await assert.rejects(operatorStart(context, instance), /no-plain-swap/);
});

test("a waivers file that cannot be used waives nothing, and the refusal says why", async () => {
  const host = await deployed();
  host.unkept.set("audit", "no key");
  host.waiversProblem = "line 3: torn";
  await assert.rejects(start(host), /audit \(no key\); no waiver holds: line 3: torn/);
});

test("scaling up ends with what the host lacks, and the daemon's answers go on", async () => {
  const host = await deployed();
  host.unkept.set("encryption", "not built");
  const { converged, failures } = await scalePool(host.context(), workers, { running: 5 });
  assert.equal(converged, false);
  assert.ok(failures.length > 0);
  for (const { code, cause, hint } of failures) {
    assert.equal(code, "host_lacks");
    assert.match(cause, /encryption/);
    assert.match(hint ?? "", /waiver/);
  }
  const stats = await new NodeOperations(host.context()).nodeStats();
  assert.equal(stats.tenants.length, 1);
});

test("no image is built while a promise is lacking: a builder is a microVM that runs what a flake says", async () => {
  const host = new FakeHost();
  host.production = true;
  host.unkept.set("runtime-isolation", "no jail");
  const deploying = deployTemplate(host.context(), { tenant, template: findTemplate("openclaw") });
  await deploying.catch((error: unknown) => assert.match(String(error), /runtime-isolation/));
  assert.ok(!host.calls.includes("builder.build"));
  assert.ok(!host.calls.includes("vmm.start"));
});

test("in development nothing is looked at, and nothing is refused", async () => {
  const host = await deployed();
  host.production = false;
  for (const promise of promiseNames) host.unkept.set(promise, "not here");
  const before = host.calls.filter((call) => call === "production.look").length;
  await start(host);
  assert.equal(host.calls.filter((call) => call === "production.look").length, before);
  assert.deepEqual(await announceProduction(host.context()), []);
});

test("each start of a daemon says and writes down what is enforced, waived and lacking", async () => {
  const host = await deployed();
  host.unkept.set("cgroup-v2", "none here").set("encryption", "not built");
  host.waivers = [{ promise: "cgroup-v2", reason: "an old host", untilMs: host.nowMs + hourMs }];
  const lines = await announceProduction(host.context());
  assert.ok(lines.some((line) => line.startsWith("enforced: signature: ")));
  assert.ok(lines.some((line) => /^WAIVED: cgroup-v2: .*an old host/.test(line)));
  assert.ok(lines.some((line) => line.startsWith("NOT ENFORCED: encryption")));
  assert.match(lines.at(-1) ?? "", /no microVM starts on this node while it lacks encryption/);
  await announceProduction(host.context());
  const [first, second] = await events(host, nodeLog, "ProductionStarted");
  assert.deepEqual(first?.fields["waived"], ["cgroup-v2"]);
  assert.deepEqual(first?.fields["lacking"], ["encryption"]);
  assert.equal(
    (first?.fields["enforced"] as unknown[] | undefined)?.length,
    promiseNames.length - 2,
  );
  assert.ok(second !== undefined, "written at every start");
  const waived = await events(host, nodeLog, "PromiseWaived");
  assert.equal(waived.length, 2);
  assert.deepEqual(waived[0]?.fields, {
    promise: "cgroup-v2",
    reason: "an old host",
    until: new Date(host.nowMs + hourMs).toISOString(),
  });
});

test("a daemon that cannot write down what it enforces starts all the same, and says so", async () => {
  const host = await deployed();
  host.disk = "full";
  const [first, ...others] = await announceProduction(host.context());
  assert.match(first ?? "", /could not be written down/);
  assert.equal(others.length, promiseNames.length);
});

test("a daemon whose waivers cannot be used says so, and writes it down", async () => {
  const host = await deployed();
  host.waiversProblem = "others than root can write it";
  assert.ok(
    (await announceProduction(host.context())).some((line) => /NO WAIVER HOLDS: others/.test(line)),
  );
  const [started] = await events(host, nodeLog, "ProductionStarted");
  assert.equal(started?.fields["waivers_problem"], "others than root can write it");
});
