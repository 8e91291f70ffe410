import assert from "node:assert/strict";
import { test } from "node:test";
import { ConflictError, OperationError } from "../../src/domain/errors.ts";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf } from "../../src/domain/instance.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import type { AuditEntry } from "../../src/ports/audit.ts";
import { CrashError, FakeHost } from "../fakes/fake-host.ts";
import { auditEvents } from "./audit-events.ts";
import { helloPool } from "./hello-pool.ts";

const tenant = parseTenantId("acme");
const web = { tenant, pool: parsePoolId("web") };

async function made(): Promise<{ readonly host: FakeHost; readonly node: NodeOperations }> {
  const host = new FakeHost();
  const node = new NodeOperations(host.context());
  await node.createTenant({ tenant });
  await node.createPool(helloPool(web));
  return { host, node };
}

/** The lines, each as its type and the most telling of its fields. */
function told(entries: readonly AuditEntry[]): string[] {
  return entries.map(({ type, fields }) => {
    const { from, to, action, changes, names } = fields;
    if (type === "InstanceTransition") return `${String(from)} → ${String(to)}`;
    const detail = action ?? to ?? changes ?? names;
    return detail === undefined ? type : `${type} ${JSON.stringify(detail)}`;
  });
}

test("the life of a tenant is told from its creation to its end, and its log outlives it", async () => {
  const { host, node } = await made();
  await node.scalePool(web, { running: 1 });
  await node.setSecrets(tenant, { TOKEN: "canary-value" });
  await node.scalePool(web, { running: 0 });
  await node.destroyTenant(tenant, { force: true, wipe: true });
  const entries = await auditEvents(host, tenant);
  assert.deepEqual(told(entries), [
    "TenantCreated",
    "PoolCreated",
    'PoolScaled ["running: 0 → 1"]',
    "ImageBuilt",
    "null → ready",
    "ready → running",
    'SecretsSet ["TOKEN"]',
    'PoolScaled ["running: 1 → 0"]',
    'TransitionDeferred "stopped"',
    "running → stopped",
    "stopped → destroyed",
    "TenantDestroyed",
  ]);
  assert.ok(!JSON.stringify(entries).includes("canary-value"));
  assert.deepEqual((await node.verifyEvents(tenant)).problems, []);
  await node.createTenant({ tenant });
  assert.equal((await auditEvents(host, tenant)).at(-1)?.sequence, entries.length + 1);
});

test("a VMM that was killed is told with its cause and when it is tried again", async () => {
  const { host, node } = await made();
  await node.scalePool(web, { running: 1 });
  for (const vmm of host.living()) vmm.alive = false;
  await node.scalePool(web, { running: 1 });
  const failed = (await auditEvents(host, tenant)).find(({ fields }) => fields["to"] === "failed");
  assert.match(String(failed?.fields["cause"]), /its VMM is gone/);
  assert.equal(failed?.fields["failures"], 1);
  assert.equal(
    Date.parse(String(failed.fields["retry_at"])) - Date.parse(failed.at),
    1000,
    "a second later",
  );
  assert.equal(host.living().length, 1, "and it runs again");
});

test("what an operator does by hand within a minimum time is told as such", async () => {
  const { host, node } = await made();
  await node.scalePool(web, { running: 1 });
  const [instance] = host.records().tenants[0]?.instances ?? [];
  assert.ok(instance);
  await node.warmInstance(addressOf(instance));
  const entries = await auditEvents(host, tenant);
  assert.deepEqual(told(entries).slice(-3), [
    'MinRuntimeOverridden "warm"',
    "ManualOverride",
    "running → warm",
  ]);
  const { ran_seconds, minimum_seconds } = entries.at(-3)?.fields ?? {};
  assert.equal(minimum_seconds, 60);
  assert.ok(Number(ran_seconds) < 60);
});

test("an action that fails is told with its cause", async () => {
  const { host, node } = await made();
  host.fault = (call) => (call === "builder.build" ? "fail" : "none");
  await node.scalePool(web, { running: 1 });
  await assert.rejects(node.buildPool(web), OperationError);
  const failures = (await auditEvents(host, tenant)).filter(({ type }) => type === "ActionFailed");
  assert.deepEqual(
    failures.map(({ fields }) => [fields["action"], fields["cause"]]),
    Array.from({ length: 3 }, () => ["build-image", "builder.build failed"]),
  );
});

test("nothing is done that cannot be written down", async () => {
  const { host, node } = await made();
  host.fault = (call) => (call === "audit.append" ? "fail" : "none");
  const before = JSON.stringify(host.records());
  await assert.rejects(node.setSecrets(tenant, { TOKEN: "x" }), OperationError);
  await assert.rejects(node.createTenant({ tenant: parseTenantId("other") }), OperationError);
  assert.equal(JSON.stringify(host.records()), before);
  assert.deepEqual((await node.secrets(tenant)).secrets, []);
});

test("a refusal is a refusal also when it cannot be written down", async () => {
  const { host, node } = await made();
  const [records] = host.records().tenants;
  assert.ok(records);
  host.putTenant({ ...records.tenant, managed_by: "document" });
  host.fault = (call) => (call === "audit.append" ? "fail" : "none");
  await assert.rejects(node.setSecrets(tenant, { TOKEN: "x" }), ConflictError);
});

test("a scale waits neither for another pool's health nor for its failures", async () => {
  const { host, node } = await made();
  await node.scalePool(web, { running: 1 });
  const other = { tenant, pool: parsePoolId("other") };
  await node.createPool(helloPool(other));
  for (const { id } of host.living()) host.deafGuests.add(id);
  const startedMs = host.nowMs;
  const result = await node.scalePool(other, { running: 1 });
  assert.deepEqual(result, { converged: true, held: [], failures: [] });
  assert.ok(host.nowMs - startedMs < 60_000, `${host.nowMs - startedMs} ms`);
});

test("a scale of workers waits for the gateway that they wait for", async () => {
  const { host, node } = await made();
  const gateway = { tenant, pool: parsePoolId("gateways") };
  await node.createPool(
    helloPool(gateway, { role: "gateway", desiredCounts: { running: 1, warm: 0, sleeping: 0 } }),
  );
  const result = await node.scalePool(web, { running: 1 });
  assert.equal(result.converged, true);
  assert.equal(host.living().length, 2);
});

test("a scale does not sit through a minimum time of a day; it says until when it lasts", async () => {
  const { host, node } = await made();
  await node.scalePool(web, { running: 1 });
  await node.updatePool(web, { runtimePolicy: { min_running_seconds: 86_400 } }, { dryRun: false });
  const startedMs = host.nowMs;
  const { converged, held } = await node.scalePool(web, { running: 0 });
  assert.equal(converged, false);
  assert.equal(held[0]?.reason, "minimum-runtime");
  assert.ok((held[0].untilMs ?? 0) > host.nowMs + 80_000_000);
  assert.ok(host.nowMs - startedMs < 10_000);
});

test("a VMM that outlives the command that started it is adopted, not started twice, and that is told", async () => {
  const { host, node } = await made();
  host.fault = (call) => (call === "vmm.start" ? "crash-after" : "none");
  await assert.rejects(node.scalePool(web, { running: 1 }), CrashError);
  host.fault = () => "none";
  const [orphan] = host.living();
  assert.ok(orphan);
  await new NodeOperations(host.context()).scalePool(web, {});
  assert.deepEqual(
    host.living().map(({ pid }) => pid),
    [orphan.pid],
  );
  const told = (await auditEvents(host, tenant)).filter(({ type }) => type === "VmmAdopted");
  assert.deepEqual(
    told.map(({ fields }) => fields["pid"]),
    [orphan.pid],
  );
});

test("after a reboot what ran is failed with its cause, and runs again as the counts say", async () => {
  const { host, node } = await made();
  await node.scalePool(web, { running: 2, warm: 1 });
  host.reboot();
  host.nowMs += 3_600_000;
  const { converged } = await node.scalePool(web, { running: 1 });
  assert.equal(converged, true);
  const failed = (await auditEvents(host, tenant)).filter(
    ({ fields }) => fields["to"] === "failed",
  );
  assert.equal(failed.length, 3);
  for (const { fields } of failed) assert.match(String(fields["cause"]), /the host restarted/);
  const statuses = host
    .records()
    .tenants.flatMap(({ instances }) => instances.map(({ state }) => state.status));
  assert.deepEqual(statuses.toSorted(), ["failed", "running", "warm"].toSorted());
});
