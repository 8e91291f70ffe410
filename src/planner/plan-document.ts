import type { DesiredPool } from "../domain/desired-pool.ts";
import { differingFields, unsupported } from "../domain/desired-pool.ts";
import type { DesiredState, DesiredTenant } from "../domain/desired-state.ts";
import { type PoolId, type TenantId, formatPool } from "../domain/ids.ts";
import { isOverridden } from "../domain/management.ts";
import { type Pool, emptyCounts } from "../domain/pool.ts";
import { findExcess } from "../domain/quota.ts";
import { rolePriority } from "../domain/roles.ts";
import type { Tenant } from "../domain/tenant.ts";
import type { Action, Held } from "./action.ts";
import { clashesOf } from "./document-clashes.ts";
import type { ObservedTenant } from "./observed.ts";
import { heldByQuota } from "./pool-planning.ts";

/** What a document does to a tenant that is there, as far as the rest of the plan has to know. */
export interface DocumentChanges {
  /** Pools whose records are about to change: what they need is planned when they have. */
  readonly pending: ReadonlySet<PoolId>;
  /** Pools that no document names any more. */
  readonly pruned: ReadonlySet<PoolId>;
  /** Whether the tenant itself goes when it is empty. */
  readonly isPruned: boolean;
}

export const noChanges: DocumentChanges = {
  pending: new Set(),
  pruned: new Set(),
  isPruned: false,
};

/** Its removal was begun and goes on; a document that names it has it made anew after that. */
const going: DocumentChanges = { ...noChanges, isPruned: true };

interface DocumentPlanning {
  readonly document: DesiredState;
  readonly tenants: readonly ObservedTenant[];
  readonly nowMs: number;
  readonly actions: Action[];
  readonly held: Held[];
}

/** Plans what makes the records say what a document says: tenants first, then their pools by role. What is managed on this node or overridden is left alone. */
export function planDocument(planning: DocumentPlanning): ReadonlyMap<TenantId, DocumentChanges> {
  const { document, tenants } = planning;
  const changes = new Map<TenantId, DocumentChanges>();
  const byId = new Map(tenants.map((observed) => [observed.tenant.tenant_id, observed]));
  const named = new Set(document.tenants.map(({ tenant_id }) => tenant_id));
  const byNetId = new Map(tenants.map((observed) => [observed.tenant.net_id, observed]));
  for (const desired of document.tenants) {
    const own = byId.get(desired.tenant_id);
    const neighbour = byNetId.get(desired.network.tenant_net_id);
    // Only these two can be in its way: looking at all would be a square of the tenants.
    const near = [own, neighbour].filter((other) => other !== undefined);
    const clashes = clashesOf(desired, document, [...new Set(near)]);
    if (clashes.length > 0) {
      for (const detail of clashes) hold(planning, desired.tenant_id, "clash", detail);
    } else if (own !== undefined) {
      changes.set(desired.tenant_id, planKnown(planning, desired, own));
    } else if (neighbour === undefined) {
      planning.actions.push({ kind: "apply-tenant", desired });
      planPools(planning, desired, []);
    } else {
      const detail = `its network is that of ${neighbour.tenant.tenant_id}, which is removed first`;
      hold(planning, desired.tenant_id, "waiting-for-prune", detail);
    }
  }
  for (const observed of tenants) {
    const { tenant } = observed;
    if (named.has(tenant.tenant_id) || tenant.managed_by === "local") continue;
    // What was begun goes on, whatever a newer document says.
    if (tenant.destroying) changes.set(tenant.tenant_id, going);
    else if (document.prune_unknown_tenants) {
      changes.set(tenant.tenant_id, planPruned(planning, observed));
    }
  }
  return changes;
}

function planKnown(
  planning: DocumentPlanning,
  desired: DesiredTenant,
  observed: ObservedTenant,
): DocumentChanges {
  const { tenant, pools } = observed;
  if (tenant.destroying) return going;
  if (differs(tenant, desired) && !heldByOverride(planning, tenant.tenant_id, tenant)) {
    planning.actions.push({ kind: "apply-tenant", desired });
  }
  const expected = desired.secrets_hash;
  if (expected !== undefined && observed.secretsHash !== expected) {
    const detail = "its secrets are not those the coordinator expects: push them to this node";
    hold(planning, tenant.tenant_id, "secrets-out-of-date", detail);
  }
  const pending = planPools(planning, desired, pools);
  const named = new Set(desired.pools.map(({ pool_id }) => pool_id));
  const unknown = planning.document.prune_unknown_pools
    ? pools.filter(({ pool_id, managed_by }) => managed_by === "document" && !named.has(pool_id))
    : [];
  return { pending, pruned: prunable(planning, tenant, unknown), isPruned: false };
}

/** Plans what makes a tenant's pools what the document says, in their order. @returns those that are about to change. */
function planPools(
  planning: DocumentPlanning,
  desired: DesiredTenant,
  pools: readonly Pool[],
): ReadonlySet<PoolId> {
  const pending = new Set<PoolId>();
  let count = pools.length;
  for (const wanted of byPriority(desired.pools)) {
    const address = { tenant: desired.tenant_id, pool: wanted.pool_id };
    const name = formatPool(address);
    const pool = pools.find(({ pool_id }) => pool_id === wanted.pool_id);
    const missing = unsupported(wanted);
    if (missing.length > 0) {
      const detail = `this version does not do what the document asks with ${missing.join(", ")}`;
      hold(planning, name, "not-supported", detail);
    }
    if (pool !== undefined) {
      if (differingFields(pool, wanted).length === 0) continue;
      if (heldByOverride(planning, name, pool)) continue;
    } else {
      const excess = findExcess(desired.quotas, { max_pools: count }, { max_pools: 1 });
      if (excess !== undefined) {
        planning.held.push(heldByQuota(name, excess));
        continue;
      }
      count += 1;
    }
    pending.add(wanted.pool_id);
    planning.actions.push({ kind: "apply-pool", pool: address, desired: wanted });
  }
  return pending;
}

function planPruned(
  planning: DocumentPlanning,
  { tenant, pools }: ObservedTenant,
): DocumentChanges {
  const id = tenant.tenant_id;
  if (heldByOverride(planning, id, tenant)) return noChanges;
  const local = pools.filter(({ managed_by }) => managed_by === "local");
  for (const { pool_id } of local) {
    const detail = `no document names tenant ${id} any more, and its pool ${id}/${pool_id} is managed on this node`;
    hold(planning, id, "clash", detail);
  }
  const own = pools.filter(({ managed_by }) => managed_by === "document");
  const pruned = prunable(planning, tenant, own);
  return { pending: new Set(), pruned, isPruned: pruned.size === pools.length };
}

/** The pools that may go: what is critical, overridden or of a pinned tenant stays until someone says otherwise. */
function prunable(
  planning: DocumentPlanning,
  tenant: Tenant,
  pools: readonly Pool[],
): ReadonlySet<PoolId> {
  const going = pools.filter((pool) => {
    const name = formatPool({ tenant: tenant.tenant_id, pool: pool.pool_id });
    if (tenant.pinned) {
      hold(planning, name, "pinned", "no document names it; a pinned tenant's pools stay");
      return false;
    }
    if (pool.critical) {
      hold(planning, name, "critical", "no document names it; a critical pool stays");
      return false;
    }
    return !heldByOverride(planning, name, pool);
  });
  return new Set(going.map(({ pool_id }) => pool_id));
}

/** A pool that goes wants no instances. */
export function asPruned(pool: Pool): Pool {
  return { ...pool, desired_counts: emptyCounts };
}

function differs(tenant: Tenant, desired: DesiredTenant): boolean {
  return (
    tenant.pinned !== desired.pinned ||
    Object.entries(desired.quotas).some(
      ([name, value]) => tenant.quotas[name as keyof typeof tenant.quotas] !== value,
    )
  );
}

function heldByOverride(
  planning: DocumentPlanning,
  object: string,
  managed: Tenant | Pool,
): boolean {
  if (!isOverridden(managed, planning.nowMs)) return false;
  const until = managed.override_until ?? "";
  planning.held.push({
    object,
    reason: "document-overridden",
    detail: `an operator took it from its document until ${until}`,
    untilMs: Date.parse(until),
  });
  return true;
}

function hold(
  planning: DocumentPlanning,
  object: string,
  reason: Held["reason"],
  detail: string,
): void {
  planning.held.push({ object, reason, detail });
}

function byPriority(pools: readonly DesiredPool[]): DesiredPool[] {
  return pools.toSorted(
    (a, b) => rolePriority(a.role) - rolePriority(b.role) || (a.pool_id < b.pool_id ? -1 : 1),
  );
}
