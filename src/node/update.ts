import { type EgressPolicy, formatEgress } from "../domain/egress.ts";
import { type PoolAddress, type TenantId, formatPool } from "../domain/ids.ts";
import type { InstanceResources, Pool, RuntimePolicy } from "../domain/pool.ts";
import {
  QuotaError,
  type QuotaExcess,
  type QuotaName,
  type Quotas,
  findExcess,
} from "../domain/quota.ts";
import {
  type SecretScope,
  assertSecretScopes,
  formatSecretScope,
} from "../domain/secret-scopes.ts";
import type { Tenant } from "../domain/tenant.ts";
import { usedBy } from "../planner/usage.ts";
import { excessOfWanted } from "../planner/wanted.ts";
import type { TenantRecords } from "../ports/store.ts";
import { changesBetween } from "./changes.ts";
import type { NodeContext } from "./context.ts";
import { allowChange } from "./management.ts";
import { applyNetworks } from "./networks.ts";
import { findPool, loadTenant, refuseCorrupt } from "./records.ts";
import { refuseExcess } from "./refuse.ts";

export interface TenantUpdate {
  readonly quotas?: Partial<Quotas>;
  readonly pinned?: boolean;
}

export interface PoolUpdate {
  readonly resources?: Partial<InstanceResources>;
  readonly flakeRef?: string;
  readonly profile?: string;
  readonly runtimePolicy?: Partial<RuntimePolicy>;
  readonly startTimeoutSeconds?: number;
  readonly pinned?: boolean;
  readonly critical?: boolean;
  readonly egress?: EgressPolicy;
  readonly secretScopes?: readonly SecretScope[];
}

export interface UpdateOptions {
  /** Only says what would change. */
  readonly dryRun: boolean;
  readonly overrideMs?: number | undefined;
}

/** Changes a tenant's quotas or whether it is pinned. @returns what differs, a line each. @throws QuotaError when a new quota is below what is used. */
export async function updateTenant(
  context: NodeContext,
  id: TenantId,
  update: TenantUpdate,
  { dryRun, overrideMs }: UpdateOptions,
): Promise<string[]> {
  const command = "tenant update";
  return context.locks.withTenant(id, "updating the tenant", async () => {
    await refuseCorrupt(context, id);
    const records = await loadTenant(context, id);
    const { tenant } = records;
    const next: Tenant = {
      ...tenant,
      quotas: { ...tenant.quotas, ...update.quotas },
      pinned: update.pinned ?? tenant.pinned,
    };
    const changes = [
      ...changesBetween(tenant.quotas, next.quotas),
      ...changesBetween({ pinned: tenant.pinned }, { pinned: next.pinned }),
    ];
    const excess = belowUse(records, update.quotas ?? {});
    if (dryRun) return refusedOr(id, excess, changes);
    const change = { tenant: id, object: id, command, overrideMs };
    const override_until = await allowChange(context, tenant, change);
    await refuseExcess(context, id, { object: id, command }, excess);
    if (changes.length === 0 && override_until === tenant.override_until) return changes;
    await context.audit.append(id, { type: "TenantUpdated", object: id, changes });
    await context.store.saveTenant({ ...next, override_until });
    return changes;
  });
}

/**
 * Changes a pool. Its role is fixed. Resources and image are in effect from each instance's next
 * start; a data disk keeps the size it was made with.
 *
 * @returns what differs, a line each. @throws QuotaError when the pool's desired counts would not fit any more.
 */
export async function updatePool(
  context: NodeContext,
  address: PoolAddress,
  update: PoolUpdate,
  { dryRun, overrideMs }: UpdateOptions,
): Promise<string[]> {
  const about = { object: formatPool(address), command: "pool update" };
  assertSecretScopes(update.secretScopes ?? []);
  return context.locks.withTenant(address.tenant, `updating ${about.object}`, async () => {
    const records = await loadTenant(context, address.tenant);
    const pool = findPool(records, address);
    const next = updated(pool, update);
    const changes = changesBetween(flat(pool), flat(next));
    const others = records.pools.filter(({ pool_id }) => pool_id !== pool.pool_id);
    const excess = excessOfWanted(records.tenant.quotas, others, next);
    if (dryRun) return refusedOr(address.tenant, excess, changes);
    const change = { tenant: address.tenant, ...about, overrideMs };
    const override_until = await allowChange(context, pool, change);
    await refuseExcess(context, address.tenant, about, excess);
    if (changes.length === 0 && override_until === pool.override_until) return changes;
    const { object } = about;
    await context.audit.append(address.tenant, { type: "PoolUpdated", object, changes });
    await context.store.savePool({ ...next, override_until });
    if (update.egress !== undefined) await applyNetworks(context);
    return changes;
  });
}

/** A preview says what would be refused and writes nothing down. */
function refusedOr(tenant: TenantId, excess: QuotaExcess | undefined, changes: string[]): string[] {
  if (excess !== undefined) throw new QuotaError(tenant, excess);
  return changes;
}

function updated(pool: Pool, update: PoolUpdate): Pool {
  return {
    ...pool,
    instance_resources: { ...pool.instance_resources, ...update.resources },
    flake_ref: update.flakeRef ?? pool.flake_ref,
    profile: update.profile ?? pool.profile,
    runtime_policy: { ...pool.runtime_policy, ...update.runtimePolicy },
    start_timeout_seconds: update.startTimeoutSeconds ?? pool.start_timeout_seconds,
    pinned: update.pinned ?? pool.pinned,
    critical: update.critical ?? pool.critical,
    egress: update.egress ?? pool.egress,
    secret_scopes: update.secretScopes ?? pool.secret_scopes,
  };
}

/** The fields an update may change, each by its own name. */
function flat(pool: Pool): object {
  const { flake_ref, profile, start_timeout_seconds, pinned, critical } = pool;
  const egress = formatEgress(pool.egress);
  const secret_scopes = pool.secret_scopes.map(formatSecretScope).join(" ") || "none";
  const rest = {
    flake_ref,
    profile,
    start_timeout_seconds,
    pinned,
    critical,
    egress,
    secret_scopes,
  };
  return { ...pool.instance_resources, ...rest, ...pool.runtime_policy };
}

/** The first new quota that is below what the tenant uses now. */
function belowUse(records: TenantRecords, quotas: Partial<Quotas>): QuotaExcess | undefined {
  const { pools, instances } = records;
  const counts = pools.map(
    ({ pool_id }) => instances.filter((instance) => instance.pool_id === pool_id).length,
  );
  const used = { ...usedBy(records), max_instances_per_pool: Math.max(0, ...counts) };
  const next = { ...records.tenant.quotas, ...quotas };
  for (const quota of Object.keys(quotas) as QuotaName[]) {
    const excess = findExcess(next, { [quota]: 0 }, { [quota]: used[quota] ?? 0 });
    if (excess !== undefined) return { ...excess, used: excess.asked, asked: 0 };
  }
  return undefined;
}
