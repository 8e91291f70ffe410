import assert from "node:assert/strict";
import { test } from "node:test";
import { type InstanceAddress, parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf } from "../../src/domain/instance.ts";
import type { DesiredCounts, InstanceResources } from "../../src/domain/pool.ts";
import { QuotaError, type QuotaName, type Quotas } from "../../src/domain/quota.ts";
import { findTemplate } from "../../src/domain/templates.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import { FakeHost } from "../fakes/fake-host.ts";
import { auditEvents } from "./audit-events.ts";
import { helloPool, withStatus } from "./hello-pool.ts";

const tenant = parseTenantId("acme");
const web = { tenant, pool: parsePoolId("web") };
const disk = { vcpus: 1, mem_mib: 256, data_disk_mib: 1024 };

/** A tenant with one pool, scaled, on a host of its own. */
async function tenantWith(
  quotas: Partial<Quotas>,
  counts: Partial<DesiredCounts>,
  resources: InstanceResources = disk,
): Promise<{ readonly host: FakeHost; readonly node: NodeOperations }> {
  const host = new FakeHost();
  const node = new NodeOperations(host.context());
  await node.createTenant({ tenant, quotas });
  await node.createPool(poolRequest("web", resources));
  await node.scalePool(web, counts);
  return { host, node };
}

function poolRequest(
  id: string,
  resources: InstanceResources,
): Parameters<NodeOperations["createPool"]>[0] {
  return helloPool({ tenant, pool: parsePoolId(id) }, { resources });
}

function instanceWith(host: FakeHost, status: string): InstanceAddress {
  return addressOf(withStatus(host, status));
}

/** Expects a refusal that names the quota, its limit, what is used and what was asked, in words and in the audit log. */
async function refuses(
  host: FakeHost,
  quota: QuotaName,
  [limit, used, asked]: readonly [number, number, number],
  work: () => Promise<unknown>,
): Promise<void> {
  const before = JSON.stringify(host.records());
  await assert.rejects(work(), (error) => {
    assert.ok(error instanceof QuotaError, String(error));
    assert.equal(error.code, "over_quota");
    assert.match(
      error.message,
      new RegExp(`${quota} allows ${limit}: ${used} used, ${asked} asked`),
    );
    return true;
  });
  assert.equal(JSON.stringify(host.records()), before, "nothing changed");
  const last = (await auditEvents(host, tenant)).at(-1);
  assert.equal(last?.type, "QuotaRefused");
  const { quota: name, limit: allowed, used: has, asked: wanted } = last.fields;
  assert.deepEqual([name, allowed, has, wanted], [quota, limit, used, asked]);
}

const beyondScale: readonly (readonly [QuotaName, number, Partial<DesiredCounts>, number])[] = [
  ["max_running", 1, { running: 2 }, 2],
  ["max_warm", 1, { warm: 2 }, 2],
  ["max_vcpus", 2, { running: 2, warm: 1 }, 3],
  ["max_mem_mib", 700, { running: 2, warm: 1 }, 768],
  ["max_instances_per_pool", 2, { running: 1, warm: 1, sleeping: 1 }, 3],
  ["max_disk_gib", 2, { running: 1, warm: 2 }, 3],
];

/** What one running and one warm instance cost. */
const costOfBoth: Partial<Record<QuotaName, number>> = {
  max_running: 1,
  max_warm: 1,
  max_vcpus: 2,
  max_mem_mib: 512,
  max_disk_gib: 2,
};

for (const [quota, limit, counts, asked] of beyondScale) {
  test(`pool scale beyond ${quota} is refused`, async () => {
    const { host, node } = await tenantWith({ [quota]: limit }, {});
    await refuses(host, quota, [limit, 0, asked], () => node.scalePool(web, counts));
    await assert.rejects(node.planScale(web, counts), QuotaError);
  });

  test(`pool scale beyond ${quota}, of which another pool has its part, is refused`, async () => {
    // That one is counted for each pool by itself.
    if (quota === "max_instances_per_pool") return;
    const { host, node } = await tenantWith({ [quota]: limit }, { running: 1, warm: 1 });
    await node.createPool(poolRequest("other", disk));
    const both = costOfBoth[quota] ?? 0;
    await refuses(host, quota, [limit, both, both], () =>
      node.scalePool({ tenant, pool: parsePoolId("other") }, { running: 1, warm: 1 }),
    );
  });
}

test("a pool beyond max_pools is refused", async () => {
  const { host, node } = await tenantWith({ max_pools: 1 }, {});
  await refuses(host, "max_pools", [1, 1, 1], () => node.createPool(poolRequest("other", disk)));
});

test("a deployment whose pools would break a quota is refused before the pool is made", async () => {
  const host = new FakeHost();
  const node = new NodeOperations(host.context());
  const request = { tenant, template: findTemplate("openclaw") };
  await node.deploy(request);
  const workers = { tenant, pool: parsePoolId("workers") };
  await node.destroyPool(workers, { force: true, wipe: true });
  lower(host, { max_vcpus: 7 });
  await refuses(host, "max_vcpus", [7, 2, 6], () => node.deploy(request));
});

const beyondStart: readonly (readonly [QuotaName, number, readonly [number, number, number]])[] = [
  ["max_running", 1, [1, 1, 1]],
  ["max_vcpus", 1, [1, 1, 1]],
  ["max_mem_mib", 256, [256, 256, 256]],
];

for (const [quota, limit, figures] of beyondStart) {
  test(`instance start beyond ${quota} is refused`, async () => {
    const { host, node } = await tenantWith({}, { running: 2 });
    const [first] = host.records().tenants[0]?.instances ?? [];
    assert.ok(first);
    await node.stopInstance(addressOf(first));
    lower(host, { [quota]: limit });
    await refuses(host, quota, figures, () => node.startInstance(addressOf(first)));
  });
}

test("instance wake beyond max_running is refused", async () => {
  const { host, node } = await tenantWith({}, { running: 1, warm: 1 });
  lower(host, { max_running: 1 });
  await refuses(host, "max_running", [1, 1, 1], () =>
    node.wakeInstance(instanceWith(host, "warm")),
  );
});

test("instance warm beyond max_warm is refused", async () => {
  const { host, node } = await tenantWith({}, { running: 1, warm: 1 });
  lower(host, { max_warm: 1 });
  await refuses(host, "max_warm", [1, 1, 1], () =>
    node.warmInstance(instanceWith(host, "running")),
  );
});

test("a quota that was lowered holds the planner back, and that is written down once a command", async () => {
  const { host, node } = await tenantWith({}, { running: 1 });
  const [pool] = host.records().tenants[0]?.pools ?? [];
  assert.ok(pool);
  host.putPool({ ...pool, desired_counts: { running: 2, warm: 0, sleeping: 0 } });
  lower(host, { max_running: 2, max_vcpus: 1 });
  await node.createPool(poolRequest("other", { ...disk, vcpus: 1 }));
  const result = await node.scalePool({ tenant, pool: parsePoolId("other") }, {});
  assert.deepEqual(result.held, [], "another pool's hold is not this scale's");
  const refused = (await auditEvents(host, tenant)).filter(({ type }) => type === "QuotaRefused");
  assert.deepEqual(
    refused.map(({ object, fields }) => [object, fields["quota"], fields["command"]]),
    [["acme/web", "max_vcpus", "reconcile"]],
  );
  assert.equal(host.records().tenants[0]?.instances.length, 1, "no record without a start");
});

/** Lowers quotas below what is used, as a document may. */
function lower(host: FakeHost, quotas: Partial<Quotas>): void {
  const [records] = host.records().tenants;
  assert.ok(records);
  const { tenant: record } = records;
  host.putTenant({ ...record, quotas: { ...record.quotas, ...quotas } });
}
