import { type Instance, vmmOf } from "../domain/instance.ts";
import { rolePriority } from "../domain/roles.ts";
import type { Pool } from "../domain/pool.ts";
import type { DesiredState } from "../domain/desired-state.ts";
import type { TenantId } from "../domain/ids.ts";
import { type Action, type Held, type Plan, objectOf } from "./action.ts";
import { type Backoff, backoffEndsMs } from "./backoff.ts";
import type { ObservedInstance, ObservedTenant, PlannerCapabilities } from "./observed.ts";
import { type DocumentChanges, asPruned, noChanges, planDocument } from "./plan-document.ts";
import { planPool, prunePool } from "./plan-pool.ts";
import { StartLimit } from "./start-limit.ts";
import { Usage } from "./usage.ts";

export interface PlanInput {
  readonly tenants: readonly ObservedTenant[];
  /** The document in force; without one the records alone say what is wanted. */
  readonly desired?: DesiredState;
  /** What failed lately, by the address of the object, beside what the records of instances say. */
  readonly backoffs?: ReadonlyMap<string, Backoff>;
  readonly capabilities: PlannerCapabilities;
  /** How many vCPUs of instances that are not healthy yet the host bears at once; one instance always may start. */
  readonly startingVcpus: number;
  /** How many of them tenants have that are not in this plan. */
  readonly startingElsewhereVcpus?: number;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
}

/**
 * Decides what to do next so that every tenant becomes as its records say, and says what it holds
 * back and why. Pure: the same input gives the same plan. Called again after each round of actions,
 * until it plans nothing.
 */
export function plan(input: PlanInput): Plan {
  const actions: Action[] = [];
  const held: Held[] = [];
  const { tenants, desired, nowMs } = input;
  const starts = new StartLimit(input);
  const changes: ReadonlyMap<TenantId, DocumentChanges> =
    desired === undefined
      ? new Map()
      : planDocument({ document: desired, tenants, nowMs, actions, held });
  for (const observed of tenants) {
    const ofTenant = changes.get(observed.tenant.tenant_id) ?? noChanges;
    planTenant(observed, ofTenant, input, starts, actions, held);
  }
  return input.backoffs === undefined
    ? { actions, held }
    : withoutBackingOff({ actions, held }, input.backoffs, nowMs);
}

/** Holds back what failed and is not to be tried yet. */
function withoutBackingOff(
  { actions, held }: Plan,
  backoffs: ReadonlyMap<string, Backoff>,
  nowMs: number,
): Plan {
  const due: Action[] = [];
  const waits = new Map<string, Held>();
  for (const action of actions) {
    const object = objectOf(action);
    const backoff = backoffs.get(object);
    const untilMs = backoff === undefined ? 0 : backoffEndsMs(backoff.failedAtMs, backoff.failures);
    if (backoff === undefined || untilMs <= nowMs) due.push(action);
    else {
      const detail = `${action.kind} failed ${backoff.failures} times in a row: ${backoff.cause}`;
      waits.set(object, { object, reason: "backoff", detail, untilMs });
    }
  }
  return { actions: due, held: [...held, ...waits.values()] };
}

function planTenant(
  seen: ObservedTenant,
  changes: DocumentChanges,
  input: PlanInput,
  starts: StartLimit,
  actions: Action[],
  held: Held[],
): void {
  const { tenant } = seen;
  const isEmpty = tenant.destroying || seen.pools.length === 0;
  if (changes.isPruned && isEmpty) {
    actions.push({ kind: "remove-tenant", tenant: tenant.tenant_id });
    return;
  }
  if (tenant.destroying) {
    held.push({
      object: tenant.tenant_id,
      reason: "tenant-is-being-destroyed",
      detail: `finish it with: mvm tenant destroy ${tenant.tenant_id} --force`,
    });
    return;
  }
  const pools = seen.pools.map((pool) =>
    changes.pruned.has(pool.pool_id) ? asPruned(pool) : pool,
  );
  const observed = { ...seen, pools };
  if (!observed.networkReady && observed.pools.length > 0) {
    actions.push({ kind: "ensure-network", tenant: tenant.tenant_id });
  }
  const usage = new Usage({
    tenant,
    pools: observed.pools,
    instances: observed.instances.map((member) => asCounted(member)),
  });
  const ordered = byPriority(pools);
  for (const pool of ordered) {
    if (changes.pruned.has(pool.pool_id) || changes.pending.has(pool.pool_id)) continue;
    const gateway = gatewayToWaitFor(pool, observed);
    planPool({ pool, observed, usage, gateway, starts, input, actions, held });
  }
  // Gateways end last.
  for (const pool of ordered.toReversed()) {
    if (!changes.pruned.has(pool.pool_id)) continue;
    prunePool({ pool, observed, usage, gateway: undefined, starts, input, actions, held });
  }
}

/** A VMM that nobody recorded costs what a start costs, until it is settled. */
function asCounted({ record, vmm }: ObservedInstance): Instance {
  if (vmm === "none" || vmmOf(record) !== undefined || record.operation !== null) return record;
  return { ...record, operation: { kind: "start", started_at: record.created_at, step: "vmm" } };
}

function byPriority(pools: readonly Pool[]): Pool[] {
  return pools.toSorted(
    (a, b) => rolePriority(a.role) - rolePriority(b.role) || (a.pool_id < b.pool_id ? -1 : 1),
  );
}

/** A gateway pool that must serve before `pool` starts anything, so that routing is ready first. */
function gatewayToWaitFor(pool: Pool, observed: ObservedTenant): Pool | undefined {
  if (rolePriority(pool.role) === 0) return undefined;
  return observed.pools.find((candidate) => {
    if (candidate.role !== "gateway") return false;
    const serving = observed.instances.filter(
      ({ record, health }) =>
        record.pool_id === candidate.pool_id &&
        record.state.status === "running" &&
        record.operation === null &&
        health === "healthy",
    );
    return serving.length < candidate.desired_counts.running;
  });
}
