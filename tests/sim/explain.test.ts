import assert from "node:assert/strict";
import { test } from "node:test";
import { NotFoundError } from "../../src/domain/errors.ts";
import { parseInstanceId, parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf } from "../../src/domain/instance.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import { FakeHost } from "../fakes/fake-host.ts";
import { helloPool, withStatus } from "./hello-pool.ts";

const tenant = parseTenantId("acme");
const web = { tenant, pool: parsePoolId("web") };

async function made(): Promise<{ readonly host: FakeHost; readonly node: NodeOperations }> {
  const host = new FakeHost();
  const node = new NodeOperations(host.context());
  await node.createTenant({ tenant, quotas: { max_running: 2 } });
  await node.createPool(
    helloPool(web, { resources: { vcpus: 1, mem_mib: 256, data_disk_mib: 1024 } }),
  );
  await node.scalePool(web, { running: 1, warm: 1 });
  return { host, node };
}

test("a pool is explained by what is wanted, what is there, its quotas and its last events", async () => {
  const { node } = await made();
  const view = await node.explain(web);
  assert.match(
    view.because[0] ?? "",
    /1 running, 1 warm .* wanted; 1 run \(1 healthy\), 1 are warm/,
  );
  assert.deepEqual(view.plan, { actions: [], held: [] });
  assert.deepEqual(
    view.quotas.find(({ quota }) => quota === "max_running"),
    { quota: "max_running", used: 1, limit: 2 },
  );
  assert.equal(view.runtime_policy?.min_running_seconds, 60);
  assert.ok(view.events.every(({ object }) => object.startsWith("acme/web")));
  assert.equal(view.events.at(-1)?.fields["to"], "warm");
});

test("an instance whose VMM was killed is explained before anything was done about it, and nothing is", async () => {
  const { host, node } = await made();
  const running = withStatus(host, "running");
  for (const vmm of host.living()) if (vmm.id === running.instance_id) vmm.alive = false;
  const before = [JSON.stringify(host.records()), host.calls.filter(changes).length];
  const view = await node.explain(addressOf(running));
  assert.ok(view.because.includes("its VMM is gone"), view.because.join("\n"));
  assert.deepEqual(view.plan.actions, [
    { kind: "settle-instance", object: `acme/web/${running.instance_id}` },
  ]);
  assert.deepEqual(view.console, ["last words"]);
  assert.deepEqual([JSON.stringify(host.records()), host.calls.filter(changes).length], before);
});

test("a failed instance is explained by its cause and its backoff", async () => {
  const { host, node } = await made();
  const running = withStatus(host, "running");
  for (const vmm of host.living()) vmm.alive = false;
  host.fault = (call) => (call === "vmm.start" ? "fail" : "none");
  await node.scalePool(web, {});
  const view = await node.explain(addressOf(running));
  assert.match(view.because.join("\n"), /it failed \d times in a row, the last time because: /);
  assert.equal(view.plan.held[0]?.reason, "backoff");
});

test("what an operator, a minimum and a quota hold back is said with its end", async () => {
  const { host, node } = await made();
  const running = withStatus(host, "running");
  await node.stopInstance(addressOf(running));
  const stopped = await node.explain(addressOf(running));
  assert.match(stopped.because.join("\n"), /an operator moved it by hand: .* until 2026-/);
  assert.equal(stopped.plan.held[0]?.reason, "manual-override");
  await node.updateTenant(tenant, { quotas: { max_vcpus: 1 } }, { dryRun: false });
  const [records] = host.records().tenants;
  assert.ok(records);
  for (const pool of records.pools) {
    host.putPool({ ...pool, desired_counts: { running: 3, warm: 1, sleeping: 0 } });
  }
  const pool = await node.explain(web);
  assert.ok(pool.plan.held.some(({ reason, quota }) => reason === "quota" && quota !== undefined));
  const all = await node.explain({ tenant });
  assert.ok(all.plan.held.length >= pool.plan.held.length);
});

test("an instance that waits is explained by what holds its pool, and not by what holds another", async () => {
  const { host, node } = await made();
  const other = { tenant, pool: parsePoolId("other") };
  await node.createPool(helloPool(other));
  const warm = withStatus(host, "warm");
  await node.stopInstance(addressOf(warm));
  host.nowMs += 3_600_000;
  await node.updateTenant(tenant, { quotas: { max_vcpus: 1 } }, { dryRun: false });
  for (const pool of host.records().tenants[0]?.pools ?? []) {
    host.putPool({ ...pool, desired_counts: { running: 2, warm: 0, sleeping: 0 } });
  }
  const { plan } = await node.explain(addressOf(warm));
  assert.deepEqual(
    plan.held.map(({ object, reason }) => `${reason} ${object}`),
    ["quota acme/web"],
  );
  assert.deepEqual(plan.actions, []);
});

test("the plan that is explained is the one that a dry run shows", async () => {
  const { host, node } = await made();
  for (const vmm of host.living()) vmm.alive = false;
  const { plan } = await node.explain({ tenant });
  assert.ok(plan.actions.length > 0);
  assert.deepEqual(plan, await node.planScale(web, {}));
});

test("what is not there cannot be explained", async () => {
  const { node } = await made();
  for (const address of [
    { tenant: parseTenantId("nobody") },
    { tenant, pool: parsePoolId("nothing") },
    { ...web, instance: parseInstanceId("i-0badc0de") },
  ]) {
    await assert.rejects(node.explain(address), NotFoundError);
  }
});

test("an instance's figures are those of its VMM, its guest, its disk and its port", async () => {
  const { host, node } = await made();
  const stats = await node.instanceStats(addressOf(withStatus(host, "running")));
  assert.equal(stats.vmm?.cpu_percent, 50);
  assert.equal(stats.guest?.services[0]?.health, "healthy");
  assert.deepEqual(stats.data_disk, { size_mib: 1024, allocated_mib: 10 });
  assert.deepEqual(stats.traffic, { received_bytes: 1, sent_bytes: 2 });
});

test("an instance that is paused or stopped has figures without a guest", async () => {
  const { host, node } = await made();
  const warm = await node.instanceStats(addressOf(withStatus(host, "warm")));
  assert.equal(warm.guest, null);
  assert.ok(warm.vmm);
  const running = withStatus(host, "running");
  await node.stopInstance(addressOf(running));
  const stopped = await node.instanceStats(addressOf(running));
  assert.deepEqual([stopped.vmm, stopped.traffic, stopped.status], [null, null, "stopped"]);
  assert.ok(stopped.data_disk, "its data disk stays");
});

test("the node's figures count instances, deferrals, refusals, failures and audit heads for each tenant", async () => {
  const { host, node } = await made();
  await node.scalePool(web, { running: 2 });
  assert.equal((await node.nodeStats()).tenants[0]?.converged, true);
  await node.scalePool(web, { running: 1, warm: 0 });
  await assert.rejects(node.scalePool(web, { running: 3 }));
  const [first] = host.living();
  assert.ok(first);
  first.alive = false;
  host.fault = (call) => (call === "vmm.start" ? "fail" : "none");
  await node.scalePool(web, {});
  const { tenants, vmms, host: use } = await node.nodeStats();
  const [acme] = tenants;
  assert.ok(acme);
  assert.equal(acme.converged, false);
  assert.equal(use.vcpus, 2);
  assert.equal(vmms.count, host.living().length);
  assert.equal(acme.instances["failed"], 1);
  assert.equal(acme.quota_refusals_total, 1);
  assert.ok(acme.deferred_total >= 1);
  assert.match(acme.last_error?.cause ?? "", /vmm\.start failed|no VMM/);
  const last = (await node.events(tenant, 1)).at(-1);
  assert.equal(acme.audit_head?.sequence, last?.sequence);
});

function changes(call: string): boolean {
  return /save|remove|append|writeHead|start|stop|apply|prepare|release/.test(call);
}

test("an instance that is not there leads to the one that was probably meant, by its id or its address", async () => {
  const { host, node } = await made();
  const instance = addressOf(withStatus(host, "running"));
  const last = instance.instance.at(-1) === "0" ? "1" : "0";
  const slip = parseInstanceId(`${instance.instance.slice(0, -1)}${last}`);
  const isOffered = (name: string) => (error: unknown) =>
    error instanceof NotFoundError &&
    (error.hint ?? "").startsWith(`did you mean ${name}? See: mvm`);
  await assert.rejects(node.locate(slip), isOffered(instance.instance));
  const address = { ...web, instance: slip };
  await assert.rejects(node.instance(address), isOffered(`acme/web/${instance.instance}`));
  await assert.rejects(node.explain(address), isOffered(`acme/web/${instance.instance}`));
});
