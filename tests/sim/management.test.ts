import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ConflictError, UsageError } from "../../src/domain/errors.ts";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf } from "../../src/domain/instance.ts";
import { QuotaError } from "../../src/domain/quota.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import { FakeHost } from "../fakes/fake-host.ts";
import { auditEvents } from "./audit-events.ts";
import { helloPool } from "./hello-pool.ts";

const tenant = parseTenantId("acme");
const web = { tenant, pool: parsePoolId("web") };
const minutes = 60_000;
const now = { dryRun: false };

/** A tenant with a pool of one instance; `document` says who manages them. */
async function made(managed_by: "local" | "document" = "local"): Promise<{
  readonly host: FakeHost;
  readonly node: NodeOperations;
}> {
  const host = new FakeHost();
  const node = new NodeOperations(host.context());
  await node.createTenant({ tenant });
  await node.createPool(
    helloPool(web, { resources: { vcpus: 1, mem_mib: 256, data_disk_mib: 1024 } }),
  );
  await node.scalePool(web, { running: 1 });
  const [records] = host.records().tenants;
  assert.ok(records);
  host.putTenant({ ...records.tenant, managed_by });
  for (const pool of records.pools) host.putPool({ ...pool, managed_by });
  return { host, node };
}

const changes: Readonly<
  Record<string, (node: NodeOperations, overrideMs?: number) => Promise<unknown>>
> = {
  "pool scale": (node, overrideMs) => node.scalePool(web, { running: 2 }, overrideMs),
  "pool update": (node, overrideMs) =>
    node.updatePool(web, { pinned: true }, { ...now, overrideMs }),
  "pool build": (node, overrideMs) => node.buildPool(web, {}, overrideMs),
  "pool destroy": (node, overrideMs) =>
    node.destroyPool(web, { force: true, wipe: true, overrideMs }),
  "tenant update": (node, overrideMs) =>
    node.updateTenant(tenant, { pinned: true }, { ...now, overrideMs }),
  "tenant secrets set": (node, overrideMs) => node.setSecrets(tenant, { KEY: "value" }, overrideMs),
  "tenant destroy": (node, overrideMs) =>
    node.destroyTenant(tenant, { force: true, wipe: true, overrideMs }),
};

for (const [command, change] of Object.entries(changes)) {
  describe(`${command} of what a document manages`, () => {
    test("is refused, changes nothing and is written down", async () => {
      const { host, node } = await made("document");
      const before = JSON.stringify(host.records());
      await assert.rejects(change(node), (error) => {
        assert.ok(error instanceof ConflictError);
        assert.match(error.message, /managed by a document/);
        assert.match(error.hint ?? "", /--override 10m/);
        return true;
      });
      assert.equal(JSON.stringify(host.records()), before);
      const last = (await auditEvents(host, tenant)).at(-1);
      assert.equal(last?.type, "Refused");
      assert.equal(last.fields["command"], command);
    });

    test("is done with an override, and that is written down before it", async () => {
      const { host, node } = await made("document");
      await change(node, 10 * minutes);
      const overridden = (await auditEvents(host, tenant)).filter(
        ({ type }) => type === "DocumentOverridden",
      );
      assert.deepEqual(
        overridden.map(({ fields }) => fields["command"]),
        [command],
      );
    });

    test("of what is managed locally needs no override, and an override of it is an error", async () => {
      const { node } = await made();
      await assert.rejects(change(node, 10 * minutes), UsageError);
      await change(node);
    });
  });
}

test("an override is shown, lets further changes be, and ends by itself", async () => {
  const { host, node } = await made("document");
  await node.scalePool(web, { running: 2 }, 10 * minutes);
  const { override_until } = await node.pool(web);
  assert.ok(override_until !== null && Date.parse(override_until) > host.nowMs);
  await node.scalePool(web, { running: 1 });
  assert.equal((await node.pool(web)).override_until, override_until, "it is no longer for that");
  host.nowMs += 11 * minutes;
  await assert.rejects(node.scalePool(web, { running: 2 }), ConflictError);
  // A tenant's override is not one of its pools.
  await node.updateTenant(tenant, { pinned: true }, { ...now, overrideMs: 10 * minutes });
  await assert.rejects(node.scalePool(web, { running: 2 }), ConflictError);
});

test("an instance of what a document manages is still moved by hand", async () => {
  const { host, node } = await made("document");
  const [instance] = host.records().tenants[0]?.instances ?? [];
  assert.ok(instance);
  await node.stopInstance(addressOf(instance));
  const types = (await auditEvents(host, tenant)).map(({ type }) => type);
  assert.deepEqual(types.slice(-2), ["ManualOverride", "InstanceTransition"]);
});

describe("tenant update", () => {
  test("changes quotas and pins, and says what differs", async () => {
    const { host, node } = await made();
    const update = { quotas: { max_vcpus: 8 }, pinned: true };
    const said = await node.updateTenant(tenant, update, now);
    assert.deepEqual(said, ["max_vcpus: 32 → 8", "pinned: false → true"]);
    const { quotas, pinned } = await node.tenant(tenant);
    assert.deepEqual([quotas.max_vcpus, pinned], [8, true]);
    assert.deepEqual((await auditEvents(host, tenant)).at(-1)?.fields["changes"], said);
    assert.deepEqual(await node.updateTenant(tenant, update, now), []);
  });

  for (const [quota, used] of [
    ["max_vcpus", 1],
    ["max_mem_mib", 256],
    ["max_running", 1],
    ["max_pools", 1],
    ["max_instances_per_pool", 1],
    ["max_disk_gib", 1],
  ] as const) {
    test(`to a ${quota} below what is used is refused`, async () => {
      const { node } = await made();
      const update = { quotas: { [quota]: used - 1 } };
      for (const dryRun of [true, false]) {
        await assert.rejects(node.updateTenant(tenant, update, { dryRun }), (error) => {
          assert.ok(error instanceof QuotaError);
          const says = `${quota} allows ${used - 1}: ${used} used, 0 asked`;
          assert.ok(error.message.includes(says), error.message);
          return true;
        });
      }
      await node.updateTenant(tenant, { quotas: { [quota]: used } }, now);
    });
  }

  test("to a max_warm below what is warm is refused", async () => {
    const { node } = await made();
    await node.scalePool(web, { warm: 1 });
    await assert.rejects(
      node.updateTenant(tenant, { quotas: { max_warm: 0 } }, now),
      /max_warm allows 0: 1 used, 0 asked/,
    );
  });

  test("that is a dry run changes nothing", async () => {
    const { host, node } = await made();
    const before = [JSON.stringify(host.records()), (await auditEvents(host, tenant)).length];
    assert.deepEqual(await node.updateTenant(tenant, { pinned: true }, { dryRun: true }), [
      "pinned: false → true",
    ]);
    assert.deepEqual(
      [JSON.stringify(host.records()), (await auditEvents(host, tenant)).length],
      before,
    );
  });
});

describe("pool update", () => {
  test("is in effect from an instance's next start, and what runs counts as what it has", async () => {
    const { host, node } = await made();
    const resources = { vcpus: 4, mem_mib: 1024, data_disk_mib: 2048 };
    await node.updatePool(web, { resources }, now);
    assert.equal((await node.tenant(tenant)).used.max_vcpus, 1);
    const [instance] = host.records().tenants[0]?.instances ?? [];
    assert.ok(instance);
    await node.stopInstance(addressOf(instance));
    await node.startInstance(addressOf(instance));
    const { used } = await node.tenant(tenant);
    assert.deepEqual([used.max_vcpus, used.max_mem_mib], [4, 1024]);
    assert.equal(used.max_disk_gib, 1, "its data disk is the one it was made with");
  });

  test("to resources with which the desired counts would break a quota is refused", async () => {
    const { host, node } = await made();
    const before = JSON.stringify(host.records());
    for (const [resources, says] of [
      [{ vcpus: 32 }, /max_vcpus allows 32: 0 used, 64 asked/],
      [{ mem_mib: 65_536 }, /max_mem_mib allows 65536: 0 used, 131072 asked/],
      [{ data_disk_mib: 1_048_576 }, /max_disk_gib allows 500: 0 used, 2048 asked/],
    ] as const) {
      host.nowMs += minutes;
      const [pool] = host.records().tenants[0]?.pools ?? [];
      assert.ok(pool);
      host.putPool({ ...pool, desired_counts: { running: 2, warm: 0, sleeping: 0 } });
      await assert.rejects(node.updatePool(web, { resources }, now), says);
      host.putPool(pool);
    }
    assert.equal(JSON.stringify(host.records()), before);
  });

  test("changes runtime policy and treatment, and says what differs", async () => {
    const { node } = await made();
    const update = { runtimePolicy: { min_running_seconds: 5 }, critical: true, profile: "big" };
    assert.deepEqual(await node.updatePool(web, update, now), [
      "profile: minimal → big",
      "critical: false → true",
      "min_running_seconds: 60 → 5",
    ]);
    const pool = await node.pool(web);
    assert.equal(pool.runtime_policy.min_running_seconds, 5);
    assert.deepEqual([pool.critical, pool.profile], [true, "big"]);
  });
});
