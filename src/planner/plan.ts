import { type Instance, vmmOf } from "../domain/instance.ts";
import { rolePriority } from "../domain/roles.ts";
import type { Pool } from "../domain/pool.ts";
import type { Action, Held, Plan } from "./action.ts";
import type { ObservedInstance, ObservedTenant, PlannerCapabilities } from "./observed.ts";
import { planPool } from "./plan-pool.ts";
import { StartLimit } from "./start-limit.ts";
import { Usage } from "./usage.ts";

export interface PlanInput {
  readonly tenants: readonly ObservedTenant[];
  readonly capabilities: PlannerCapabilities;
  /** How many vCPUs of instances that are not healthy yet the host bears at once; one instance always may start. */
  readonly startingVcpus: number;
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
  const starts = new StartLimit(input);
  for (const observed of input.tenants) planTenant(observed, input, starts, actions, held);
  return { actions, held };
}

function planTenant(
  observed: ObservedTenant,
  input: PlanInput,
  starts: StartLimit,
  actions: Action[],
  held: Held[],
): void {
  const { tenant } = observed;
  if (tenant.destroying) {
    held.push({
      object: tenant.tenant_id,
      reason: "tenant-is-being-destroyed",
      detail: `finish it with: mvm tenant destroy ${tenant.tenant_id} --force`,
    });
    return;
  }
  if (!observed.networkReady && observed.pools.length > 0) {
    actions.push({ kind: "ensure-network", tenant: tenant.tenant_id });
  }
  const usage = new Usage({
    tenant,
    pools: observed.pools,
    instances: observed.instances.map((member) => asCounted(member)),
  });
  for (const pool of byPriority(observed.pools)) {
    const gateway = gatewayToWaitFor(pool, observed);
    planPool({ pool, observed, usage, gateway, starts, input, actions, held });
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
