import assert from "node:assert/strict";
import { parseDesiredState } from "../../src/domain/desired-state-schema.ts";
import { differingFields } from "../../src/domain/desired-pool.ts";
import { parseTenantId } from "../../src/domain/ids.ts";
import { type Instance, vmmOf } from "../../src/domain/instance.ts";
import type { Pool } from "../../src/domain/pool.ts";
import type { Held, HeldReason } from "../../src/planner/action.ts";
import { type WrittenDocument, bytesOf } from "../builders/documents.ts";
import { type FakeHost, imageOfFlake } from "../fakes/fake-host.ts";
import { type SeedTraits, badFlake } from "./fleet-documents.ts";

const mine = parseTenantId("mine");

/** What may be left once faults are over: each is what a document asks for and cannot be had. */
const lasting: ReadonlySet<HeldReason> = new Set<HeldReason>([
  "quota",
  "pinned",
  "critical",
  "rolled-back",
  "unhealthy",
  "waiting-for-update",
  "waiting-for-gateway",
]);

/** The node is as a document says, but for what is held for a reason that such a document gives. */
export function assertAsDocument(
  host: FakeHost,
  written: WrittenDocument | undefined,
  held: readonly Held[],
  traits: SeedTraits,
  seed: string,
): void {
  assert.ok(written);
  const document = parseDesiredState(bytesOf(written));
  const tenants = new Map(host.records().tenants.map((found) => [found.tenant.tenant_id, found]));
  assert.ok(tenants.has(mine), `${seed}: the node's own tenant is gone`);
  for (const { object, reason, detail } of held) {
    assert.ok(lasting.has(reason), `${seed}: ${object} is held: ${reason}: ${detail}`);
  }
  const named = new Set(document.tenants.map(({ tenant_id }) => tenant_id as string));
  for (const [id, { tenant, pools }] of tenants) {
    if (id === mine || named.has(id) || !document.prune_unknown_tenants) continue;
    const stays = tenant.pinned || pools.some(({ critical }) => critical);
    assert.ok(stays, `${seed}: tenant ${id} was to be removed`);
  }
  for (const desired of document.tenants) {
    const found = tenants.get(desired.tenant_id);
    assert.ok(found, `${seed}: tenant ${desired.tenant_id} is missing`);
    assert.equal(found.tenant.managed_by, "document", seed);
    assert.deepEqual(found.tenant.quotas, desired.quotas, seed);
    assert.equal(found.tenant.pinned, desired.pinned, seed);
    const ids = new Set<string>(desired.pools.map(({ pool_id }) => pool_id));
    for (const pool of found.pools) {
      if (ids.has(pool.pool_id) || !document.prune_unknown_pools) continue;
      const stays = found.tenant.pinned || pool.critical;
      assert.ok(stays, `${seed}: pool ${desired.tenant_id}/${pool.pool_id} was to be removed`);
    }
    for (const wanted of desired.pools) {
      const name = `${desired.tenant_id}/${wanted.pool_id}`;
      const pool: Pool | undefined = found.pools.find(({ pool_id }) => pool_id === wanted.pool_id);
      assert.ok(pool, `${seed}: pool ${name} is missing`);
      assert.deepEqual(differingFields(pool, wanted), [], `${seed}: ${name}`);
      const members: readonly Instance[] = found.instances.filter(
        ({ pool_id }) => pool_id === wanted.pool_id,
      );
      const reasons = new Set(
        held
          .filter(({ object }) => `${object}/`.startsWith(`${name}/`))
          .map(({ reason }) => reason),
      );
      const count = (status: string): number =>
        members.filter(({ state }) => state.status === status).length;
      const { running, warm } = wanted.desired_counts;
      if (reasons.size === 0) {
        assert.equal(count("running"), running, `${seed}: ${name} running`);
        assert.equal(count("warm"), warm, `${seed}: ${name} warm`);
      }
      assert.ok(count("running") <= Math.max(running, 16), `${seed}: ${name}`);
      const isBad = wanted.flake_ref === badFlake;
      const image = imageOfFlake(wanted.flake_ref, wanted.role);
      // Guests that were lost again and again while an image was new look as if it was not good.
      const isBlamed = pool.rejected_revision === image && reasons.has("rolled-back");
      if (!isBad && running + warm > 0 && !isBlamed) {
        assert.equal(pool.revisions[0], image, `${seed}: ${name} has the document's image`);
        assert.equal(pool.rejected_revision, null, `${seed}: ${name}`);
      }
      // A bad image that replaced a good one was taken back.
      if (
        isBad &&
        pool.good_revision !== null &&
        running > 0 &&
        !pool.critical &&
        !reasons.has("quota") &&
        !reasons.has("waiting-for-gateway") &&
        !traits.pinned.has(desired.tenant_id)
      ) {
        assert.notEqual(pool.revisions[0], image, `${seed}: ${name} still has the bad image`);
      }
      if (pool.critical || found.tenant.pinned || reasons.size > 0) continue;
      for (const instance of members) {
        const vmm = vmmOf(instance);
        if (vmm === undefined) continue;
        assert.equal(vmm.revision, pool.revisions[0], `${seed}: ${name} runs an old image`);
        const has = instance.resources ?? wanted.instance_resources;
        assert.equal(has.mem_mib, wanted.instance_resources.mem_mib, `${seed}: ${name} resources`);
      }
    }
  }
  const own = tenants.get(mine);
  assert.equal(own?.tenant.managed_by, "local", seed);
  const running = own.instances.filter(({ state }) => state.status === "running").length;
  assert.equal(running, 1, `${seed}: the node's own tenant runs`);
}
