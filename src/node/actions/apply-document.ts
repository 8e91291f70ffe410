import { type DesiredPool, differingFields, documentFields } from "../../domain/desired-pool.ts";
import type { DesiredTenant } from "../../domain/desired-state.ts";
import { ConflictError } from "../../domain/errors.ts";
import { type PoolAddress, type TenantId, formatPool } from "../../domain/ids.ts";
import type { Pool } from "../../domain/pool.ts";
import { changesBetween } from "../changes.ts";
import type { NodeContext } from "../context.ts";
import { applyNetworks } from "../networks.ts";
import { endPool, newPool, recordPool } from "../pool-records.ts";
import { loadTenant } from "../records.ts";
import { collectImages, endTenant, makeTenant } from "../tenants.ts";

/** Makes a tenant, or its record, what a document says. Quotas may fall below what is used: then nothing more is started. */
export async function applyTenant(context: NodeContext, desired: DesiredTenant): Promise<void> {
  const { tenant_id, quotas, pinned, network } = desired;
  const { tenants } = await context.store.load();
  const existing = tenants.find(({ tenant }) => tenant.tenant_id === tenant_id)?.tenant;
  if (existing === undefined) {
    await makeTenant(context, {
      tenant: tenant_id,
      netId: network.tenant_net_id,
      quotas,
      pinned,
      managedBy: "document",
    });
    return;
  }
  requireDocument(existing.managed_by, `tenant ${tenant_id}`);
  const next = { ...existing, quotas, pinned };
  const changes = [
    ...changesBetween(existing.quotas, quotas),
    ...changesBetween({ pinned: existing.pinned }, { pinned }),
  ];
  if (changes.length === 0) return;
  await context.audit.append(tenant_id, { type: "TenantUpdated", object: tenant_id, changes });
  await context.store.saveTenant(next);
  context.onProgress(`${tenant_id}: ${changes.join(", ")}`);
}

/** Makes a pool, or its record, what a document says. Its instances follow with the next plans. */
export async function applyPool(
  context: NodeContext,
  address: PoolAddress,
  desired: DesiredPool,
): Promise<void> {
  const object = formatPool(address);
  const { pools } = await loadTenant(context, address.tenant);
  const pool = pools.find(({ pool_id }) => pool_id === address.pool);
  const fields = documentFields(desired);
  if (pool === undefined) {
    await recordPool(context, newPool(context, address, "document", fields), "reconcile");
    return;
  }
  requireDocument(pool.managed_by, `pool ${object}`);
  const differing = differingFields(pool, desired);
  if (differing.length === 0) return;
  // What did not work is tried again when something of it is another.
  const isOther = differing.some((name) =>
    ["flake_ref", "profile", "instance_resources"].includes(name),
  );
  const next: Pool = {
    ...pool,
    ...fields,
    rejected_revision: isOther ? null : pool.rejected_revision,
  };
  const changes = changesBetween(pick(pool, differing), pick(next, differing));
  await context.audit.append(address.tenant, { type: "PoolUpdated", object, changes });
  await context.store.savePool(next);
  context.onProgress(`${object}: ${changes.join(", ")}`);
  if (differing.includes("egress")) await applyNetworks(context);
}

/** Removes a pool that no document names any more. Data disks of its instances stay. */
export async function removePool(context: NodeContext, address: PoolAddress): Promise<void> {
  const { pools, instances } = await loadTenant(context, address.tenant);
  const pool = pools.find(({ pool_id }) => pool_id === address.pool);
  if (pool === undefined) return;
  requireDocument(pool.managed_by, `pool ${formatPool(address)}`);
  if (instances.some(({ pool_id }) => pool_id === address.pool)) {
    throw new ConflictError(`pool ${formatPool(address)} has instances again`);
  }
  await endPool(context, address, false);
  await collectImages(context);
}

/** Removes a tenant that no document names any more; its pools are gone. Data disks stay. */
export async function removeTenant(context: NodeContext, id: TenantId): Promise<void> {
  const { tenants } = await context.store.load();
  const records = tenants.find(({ tenant }) => tenant.tenant_id === id);
  if (records === undefined) return;
  requireDocument(records.tenant.managed_by, `tenant ${id}`);
  if (records.pools.length > 0 && !records.tenant.destroying) {
    throw new ConflictError(`tenant ${id} has pools again`);
  }
  await endTenant(context, records, false);
  await collectImages(context);
}

/** A document never changes what is managed on this node, whatever was planned. */
function requireDocument(managedBy: string, object: string): void {
  if (managedBy === "document") return;
  throw new ConflictError(`${object} is managed on this node: no document changes it`);
}

function pick(pool: Pool, names: readonly (keyof Pool)[]): object {
  return Object.fromEntries(names.map((name) => [name, pool[name]]));
}
