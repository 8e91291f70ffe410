import assert from "node:assert/strict";
import { instanceNetwork } from "../../src/domain/address-plan.ts";
import { vmmOf } from "../../src/domain/instance.ts";
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
