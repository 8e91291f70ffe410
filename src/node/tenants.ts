import { allocateNetId, netIdOfSubnet, tenantNetwork } from "../domain/address-plan.ts";
import { ConflictError, UsageError } from "../domain/errors.ts";
import type { TenantId } from "../domain/ids.ts";
import { addressOf, imageOf } from "../domain/instance.ts";
import { type Quotas, defaultQuotas } from "../domain/quota.ts";
import type { ManagedBy, Tenant } from "../domain/tenant.ts";
import type { TenantRecords } from "../ports/store.ts";
import { destroyInstance } from "./actions/destroy.ts";
import { type NodeContext, timestamp } from "./context.ts";
import { applyNetworks } from "./networks.ts";
import { allowChange } from "./management.ts";
import { loadTenant, refuseCorrupt } from "./records.ts";

export interface DestroyOptions {
  readonly force: boolean;
  readonly wipe: boolean;
  /** Takes it from its document first, in milliseconds. */
  readonly overrideMs?: number | undefined;
}

export interface TenantRequest {
  readonly tenant: TenantId;
  readonly netId?: number;
  /** Must be the /24 of the net id, when both are given. */
  readonly subnet?: string;
  readonly quotas?: Partial<Quotas>;
  readonly template?: string;
  /** Default: local. */
  readonly managedBy?: ManagedBy;
  readonly pinned?: boolean;
}

/** Makes a tenant with a network identity of its own. @throws ConflictError when its id or net id is taken. */
export async function createTenant(context: NodeContext, request: TenantRequest): Promise<Tenant> {
  return context.locks.withTenant(request.tenant, "creating the tenant", () =>
    makeTenant(context, request),
  );
}

/** As `createTenant`, for a caller that holds the tenant's lock. */
export async function makeTenant(context: NodeContext, request: TenantRequest): Promise<Tenant> {
  return context.locks.withNode("allocating a net id", async () => {
    const netId = await chooseNetId(context, request);
    await context.store.useNetId(netId);
    const tenant: Tenant = {
      schema_version: 2,
      tenant_id: request.tenant,
      managed_by: request.managedBy ?? "local",
      net_id: netId,
      quotas: { ...defaultQuotas, ...request.quotas },
      created_at: timestamp(context),
      template: request.template ?? null,
      destroying: false,
      pinned: request.pinned ?? false,
      override_until: null,
    };
    await context.audit.append(tenant.tenant_id, {
      type: "TenantCreated",
      object: tenant.tenant_id,
      net_id: netId,
    });
    // Before the record: a tenant is never without its key, and a key without a tenant is its next one's.
    await context.keys.ensure(tenant.tenant_id);
    await context.store.saveTenant(tenant);
    await context.reserve.keep();
    context.onProgress(`${tenant.tenant_id}: created with subnet ${tenantNetwork(netId).subnet}`);
    return tenant;
  });
}

/** The line that says a tenant is made. */
export function tenantIsMade(tenant: TenantId, netId: number): string {
  return `${tenant}: tenant is made, with subnet ${tenantNetwork(netId).subnet}`;
}

/** What making a tenant would say now, or throw. */
export async function previewTenant(context: NodeContext, request: TenantRequest): Promise<string> {
  return tenantIsMade(request.tenant, await chooseNetId(context, request));
}

/** The net id a new tenant gets. Only under the node's lock is it still free afterwards. @throws ConflictError */
async function chooseNetId(context: NodeContext, request: TenantRequest): Promise<number> {
  const wanted = wantedNetId(request);
  await refuseCorrupt(context, request.tenant);
  const { tenants, corrupt } = await context.store.load();
  if (tenants.some(({ tenant }) => tenant.tenant_id === request.tenant)) {
    throw new ConflictError(`tenant ${request.tenant} exists already`, {
      hint: `see: mvm tenant info ${request.tenant}`,
    });
  }
  const inUse = new Map(tenants.map(({ tenant }) => [tenant.net_id, tenant.tenant_id]));
  const owner = wanted === undefined ? undefined : inUse.get(wanted);
  if (owner !== undefined) {
    throw new ConflictError(`net id ${wanted} is in use by tenant ${owner}`, {
      hint: "leave --net-id and --subnet out to have one allocated",
    });
  }
  const everUsed = await context.store.useNetId(undefined);
  // A tenant whose record cannot be read has a net id too: any that was used and that nobody has.
  const unreadable = corrupt.find(({ path }) => path.endsWith("/tenant.json"));
  if (unreadable !== undefined && wanted !== undefined && everUsed.has(wanted)) {
    throw new ConflictError(
      `net id ${wanted} was used on this node, and may be that of the tenant whose record cannot be used: ${unreadable.path}`,
      { hint: "restore that record, or leave --net-id and --subnet out" },
    );
  }
  const taken = new Set([...inUse.keys(), ...(unreadable === undefined ? [] : everUsed)]);
  return wanted ?? allocateNetId(everUsed, taken);
}

/**
 * Removes a tenant with everything it has: instances, pools, network, secrets, key. Data disks stay
 * unless `wipe` is set. Begun, it is never half undone: what remains is removed the next time.
 */
export async function destroyTenant(
  context: NodeContext,
  id: TenantId,
  options: DestroyOptions,
): Promise<void> {
  await context.locks.withTenant(id, "destroying the tenant", async () => {
    await refuseCorrupt(context, id);
    const records = await loadTenant(context, id);
    const { tenant, pools, instances } = records;
    if (pools.length > 0 && !options.force && !tenant.destroying) {
      throw new ConflictError(
        `tenant ${id} has ${pools.length} pools and ${instances.length} instances`,
        { hint: `destroy all of them with: mvm tenant destroy ${id} --force` },
      );
    }
    const { overrideMs } = options;
    const change = { tenant: id, object: id, command: "tenant destroy", overrideMs };
    // One that was begun goes on: its override may have ended meanwhile.
    const override_until = tenant.destroying
      ? tenant.override_until
      : await allowChange(context, tenant, change);
    await endTenant(context, { ...records, tenant: { ...tenant, override_until } }, options.wipe);
  });
  await collectImages(context);
}

/** Removes a tenant with everything it has. The caller holds its lock, and knows that it may go. */
export async function endTenant(
  context: NodeContext,
  { tenant, pools, instances }: TenantRecords,
  wipe: boolean,
): Promise<void> {
  const id = tenant.tenant_id;
  await context.store.saveTenant({ ...tenant, destroying: true });
  // Instances go one by one while the network still stands, so that their guests end in good order.
  for (const instance of instances) {
    context.signal.throwIfAborted();
    await destroyInstance(context, addressOf(instance), wipe);
  }
  await applyNetworks(context);
  for (const pool of pools) await context.store.remove({ tenant: id, pool: pool.pool_id });
  if (wipe) await context.drives.wipeTenant(id);
  await context.audit.append(id, { type: "TenantDestroyed", object: id, wiped_volumes: wipe });
  // Before the record: what has no record has no owner who would remove it.
  await context.keys.remove(id);
  await context.store.remove({ tenant: id });
  context.onProgress(`${id}: destroyed`);
}

/** Removes images that are no pool's and that no instance was booted from. */
export async function collectImages(context: NodeContext): Promise<void> {
  // Not under the node lock, which removing a dead builder's network takes.
  await context.builder.sweep();
  await context.locks.withNode("removing unused images", async () => {
    const { tenants, corrupt } = await context.store.load();
    // A record that cannot be read may refer to any of them.
    if (corrupt.length > 0) return;
    await context.builder.retainStores(new Set(tenants.map(({ tenant }) => tenant.tenant_id)));
    const kept = tenants.flatMap(({ pools, instances }) => [
      ...pools.flatMap(({ revisions }) => revisions),
      // A VMM opens its image's files again when its guest is woken, or started anew after a crash of mvm.
      ...instances.map(imageOf).filter((hash) => hash !== undefined),
    ]);
    await context.images.collect(new Set(kept));
  });
}

function wantedNetId(request: TenantRequest): number | undefined {
  if (request.netId !== undefined) tenantNetwork(request.netId);
  if (request.subnet === undefined) return request.netId;
  const netId = netIdOfSubnet(request.subnet);
  if (request.netId !== undefined && request.netId !== netId) {
    throw new UsageError(
      `net id ${request.netId} has subnet ${tenantNetwork(request.netId).subnet}, not ${request.subnet}`,
      { hint: "give one of --net-id and --subnet; the other follows from it" },
    );
  }
  return netId;
}
