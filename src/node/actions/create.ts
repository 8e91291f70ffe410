import { allocateOffset } from "../../domain/address-plan.ts";
import { ConflictError } from "../../domain/errors.ts";
import { type InstanceAddress, type PoolAddress, formatInstance } from "../../domain/ids.ts";
import { type Instance, addressOf, statusOf } from "../../domain/instance.ts";
import type { TenantRecords } from "../../ports/store.ts";
import { type NodeContext, timestamp } from "../context.ts";
import { findPool, loadTenant, refuseCorrupt } from "../records.ts";

/**
 * Makes the record of a new instance with an address of its own.
 * @throws ConflictError when the tenant's subnet is full, or a record of the tenant cannot be read: that
 * one may have the very address, and what it stands for may count against the same quotas.
 */
export async function createInstance(
  context: NodeContext,
  address: PoolAddress,
): Promise<InstanceAddress> {
  const instance = await context.locks.withNode("making an instance", async () => {
    await refuseCorrupt(context, address.tenant);
    const records = await loadTenant(context, address.tenant);
    const pool = findPool(records, address);
    const offset = allocateOffset(await usedOffsets(context, records));
    if (offset === undefined) {
      throw new ConflictError(`tenant ${address.tenant} has no address left in its subnet`, {
        hint: "destroy instances that are no longer needed",
      });
    }
    const made: Instance = {
      schema_version: 3,
      tenant_id: address.tenant,
      pool_id: address.pool,
      instance_id: await unusedId(context),
      net_offset: offset,
      created_at: timestamp(context),
      resources: pool.instance_resources,
      state: { status: pool.revisions.length === 0 ? "created" : "ready" },
      changes: 1,
      operation: null,
      booted_revision: null,
      secrets_epoch: 0,
      failures: 0,
      spare: false,
      manual_override_until: null,
    };
    await context.audit.append(address.tenant, {
      type: "InstanceTransition",
      object: formatInstance(addressOf(made)),
      change: made.changes,
      from: null,
      to: statusOf(made),
    });
    await context.store.saveInstance(made);
    return made;
  });
  context.onProgress(`${formatInstance(addressOf(instance))}: created`);
  return addressOf(instance);
}

/** Offsets of all instances, and of TAPs that are there: one without a readable record may still run. */
async function usedOffsets(context: NodeContext, records: TenantRecords): Promise<Set<number>> {
  const { taps } = await context.network.inventory();
  const prefix = `tn${records.tenant.net_id}i`;
  return new Set([
    ...records.instances.map((other) => other.net_offset),
    ...taps.filter((tap) => tap.startsWith(prefix)).map((tap) => Number(tap.slice(prefix.length))),
  ]);
}

async function unusedId(context: NodeContext): Promise<Instance["instance_id"]> {
  const { tenants } = await context.store.load();
  const used = new Set(tenants.flatMap(({ instances }) => instances.map((i) => i.instance_id)));
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const id = context.newInstanceId();
    if (!used.has(id)) return id;
  }
  throw new ConflictError("no unused instance id was found in 100 tries");
}
