import type { DocumentFields } from "../domain/desired-pool.ts";
import { ConflictError } from "../domain/errors.ts";
import { type PoolAddress, formatPool } from "../domain/ids.ts";
import type { Pool } from "../domain/pool.ts";
import { findExcess } from "../domain/quota.ts";
import type { ManagedBy } from "../domain/tenant.ts";
import { type NodeContext, timestamp } from "./context.ts";
import { loadTenant, refuseCorrupt } from "./records.ts";
import { refuseExcess } from "./refuse.ts";

/** Makes the record of a pool that is not there yet. @throws ConflictError when it is; QuotaError beyond max_pools. */
export async function recordPool(
  context: NodeContext,
  pool: Pool,
  command: string,
  refuse: () => Promise<void> = async () => undefined,
): Promise<Pool> {
  const address = { tenant: pool.tenant_id, pool: pool.pool_id };
  const object = formatPool(address);
  await refuseCorrupt(context, address.tenant);
  const { tenant, pools } = await loadTenant(context, address.tenant);
  if (pools.some(({ pool_id }) => pool_id === address.pool)) {
    throw new ConflictError(`pool ${object} exists already`, {
      hint: `see: mvm pool info ${object}`,
    });
  }
  const excess = findExcess(tenant.quotas, { max_pools: pools.length }, { max_pools: 1 });
  await refuseExcess(context, address.tenant, { object, command }, excess);
  await refuse();
  const { role, flake_ref } = pool;
  await context.audit.append(address.tenant, { type: "PoolCreated", object, role, flake_ref });
  await context.store.savePool(pool);
  context.onProgress(`${object}: created`);
  return pool;
}

/** The record of a pool that has no image and no instances yet. */
export function newPool(
  context: NodeContext,
  address: PoolAddress,
  managed_by: ManagedBy,
  fields: DocumentFields,
): Pool {
  return {
    schema_version: 3,
    tenant_id: address.tenant,
    pool_id: address.pool,
    managed_by,
    ...fields,
    created_at: timestamp(context),
    revisions: [],
    override_until: null,
    built_from: null,
    good_revision: null,
    rejected_revision: null,
  };
}

/** Removes a pool that has no instances any more. */
export async function endPool(
  context: NodeContext,
  address: PoolAddress,
  wiped_volumes: boolean,
): Promise<void> {
  const object = formatPool(address);
  await context.audit.append(address.tenant, { type: "PoolDestroyed", object, wiped_volumes });
  await context.store.remove(address);
  context.onProgress(`${object}: destroyed`);
}
