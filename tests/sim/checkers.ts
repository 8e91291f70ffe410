import assert from "node:assert/strict";
import { instanceNetwork } from "../../src/domain/address-plan.ts";
import { addressOf, vmmOf } from "../../src/domain/instance.ts";
import { AuditLog } from "../../src/host/audit/audit-log.ts";
import type { AuditEntry } from "../../src/ports/audit.ts";
import type { TenantId } from "../../src/domain/ids.ts";
import { formatInstance } from "../../src/domain/ids.ts";
import { fakeSigner } from "../fakes/memory-audit.ts";
import type { FakeHost } from "../fakes/fake-host.ts";

/** What must hold whenever no process is at work: nothing runs, is bridged or lies about without an instance that owns it. */
export function assertNothingLeaked(host: FakeHost, seed: string): void {
  assert.deepEqual(host.violations, [], seed);
  const instances = host.records().tenants.flatMap((tenant) => tenant.instances);
  const active = instances.filter((instance) => vmmOf(instance) !== undefined);
  const ids = active.map(({ instance_id }) => instance_id as string).toSorted();
  assert.deepEqual(
    host
      .living()
      .map(({ id }) => id)
      .toSorted(),
    ids,
    `${seed}: living VMMs are those of running and warm instances`,
  );
  assert.deepEqual([...host.runFolders].toSorted(), ids, `${seed}: run folders`);
  const taps = host
    .records()
    .tenants.flatMap((records) =>
      records.instances
        .filter((instance) => vmmOf(instance) !== undefined)
        .map((instance) => instanceNetwork(records.tenant.net_id, instance.net_offset).tap),
    );
  assert.deepEqual([...host.taps].toSorted(), taps.toSorted(), `${seed}: TAPs`);
}

/** Everything is as its records ask for, and no operation is left open. */
export function assertConverged(host: FakeHost, seed: string): void {
  assertNothingLeaked(host, seed);
  for (const { pools, instances } of host.records().tenants) {
    for (const instance of instances) assert.equal(instance.operation, null, seed);
    for (const pool of pools) {
      const members = instances.filter(({ pool_id }) => pool_id === pool.pool_id);
      const count = (status: string): number =>
        members.filter(({ state }) => state.status === status).length;
      assert.equal(count("running"), pool.desired_counts.running, `${seed}: running`);
      assert.equal(count("warm"), pool.desired_counts.warm, `${seed}: warm`);
    }
  }
  for (const vmm of host.living()) {
    const owner = host
      .records()
      .tenants.flatMap(({ instances }) => instances)
      .find(({ instance_id }) => instance_id === vmm.id);
    assert.equal(vmm.paused, owner?.state.status === "warm", `${seed}: ${vmm.id} is paused`);
  }
}

/** What a process that dies between a line and its head leaves, and nothing else, may be wrong with a log. */
const leftByCrash = /are not signed: their writer died|it is cut off/;

/**
 * Every audit log is whole, but for what a crash leaves at its end, and tells of every transition of
 * every instance: their numbers are without a gap, the last line of a number says what happened, and
 * a number beyond the record's is one that was begun and not recorded.
 */
export async function assertAudited(host: FakeHost, seed: string): Promise<void> {
  const audit = auditOf(host);
  for (const tenant of host.audit.logs.keys()) {
    const verdict = await audit.verify(tenant as TenantId);
    const strange = verdict?.problems.filter(({ problem }) => !leftByCrash.test(problem));
    assert.deepEqual(strange, [], seed);
    const entries = (await audit.last(tenant as TenantId, 100_000)) ?? [];
    assertTransitionsTold(host, tenant, entries, seed);
  }
}

/** Once an event was written after the last crash, nothing is wrong with the log at all. */
export async function assertAuditWhole(host: FakeHost, seed: string): Promise<void> {
  await assertAudited(host, seed);
  const audit = auditOf(host);
  for (const tenant of host.audit.logs.keys()) {
    await audit.append(tenant as TenantId, { type: "SecretsSet", object: tenant, names: [] });
    assert.deepEqual((await audit.verify(tenant as TenantId))?.problems, [], seed);
  }
}

function auditOf(host: FakeHost): AuditLog {
  const clock = { nowMs: () => host.nowMs, sleep: async () => undefined };
  return new AuditLog({ disk: host.audit, signer: fakeSigner, clock, by: "checker" });
}

function assertTransitionsTold(
  host: FakeHost,
  tenant: string,
  entries: readonly AuditEntry[],
  seed: string,
): void {
  const told = new Map<string, Map<number, string>>();
  for (const { type, object, fields } of entries) {
    if (type !== "InstanceTransition") continue;
    const changes = told.get(object) ?? new Map<number, string>();
    changes.set(Number(fields["change"]), String(fields["to"]));
    told.set(object, changes);
  }
  const records = host.records().tenants.find((found) => found.tenant.tenant_id === tenant);
  const instances = records?.instances ?? [];
  for (const instance of instances) {
    const name = formatInstance(addressOf(instance));
    const changes = told.get(name) ?? new Map<number, string>();
    for (let change = 1; change <= instance.changes; change += 1) {
      assert.ok(changes.has(change), `${seed}: change ${change} of ${name} is in no line`);
    }
    assert.ok(Math.max(...changes.keys()) <= instance.changes + 1, `${seed}: ${name}`);
    // A change that was begun and not recorded may be followed by another of the same number later.
    assert.equal(changes.get(instance.changes), instance.state.status, `${seed}: ${name}`);
  }
  for (const [name, changes] of told) {
    if (instances.some((instance) => formatInstance(addressOf(instance)) === name)) continue;
    const last = Math.max(...changes.keys());
    // One that never came to be has the line of its creation and no other.
    if (last > 1) assert.equal(changes.get(last), "destroyed", `${seed}: end of ${name}`);
  }
}
