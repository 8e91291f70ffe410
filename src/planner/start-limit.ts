import type { Pool } from "../domain/pool.ts";
import type { ObservedTenant } from "./observed.ts";
import type { PlanInput } from "./plan.ts";

/** One that is not healthy after so long, or after its pool's start timeout, does not keep others waiting. */
const longestTurnMs = 600_000;

/** How many vCPUs of a tenant's instances are not healthy yet, and still have their turn. */
export function startingVcpus({ pools, instances }: ObservedTenant, nowMs: number): number {
  const poolOf = new Map(pools.map((pool) => [pool.pool_id, pool]));
  let vcpus = 0;
  for (const { record, health } of instances) {
    const { state } = record;
    if (state.status !== "running" || health === "healthy" || health === "unhealthy") continue;
    const pool = poolOf.get(record.pool_id);
    const turnMs = Math.min(longestTurnMs, (pool?.start_timeout_seconds ?? 0) * 1000);
    if (nowMs - Date.parse(state.since) > turnMs) continue;
    vcpus += pool?.instance_resources.vcpus ?? 0;
  }
  return vcpus;
}

/**
 * Bounds how many instances boot at once. More vCPUs than the host has cores do not boot sooner
 * together: they take turns, and each spins while it waits for another of its own guest's vCPUs.
 */
export class StartLimit {
  readonly #limit: number;
  #starting = 0;

  constructor(input: PlanInput) {
    this.#limit = input.startingVcpus;
    this.#starting = input.startingElsewhereVcpus ?? 0;
    for (const observed of input.tenants) this.#starting += startingVcpus(observed, input.nowMs);
  }

  /** Whether one more instance of a pool may start now. */
  hasRoom(pool: Pool): boolean {
    return this.#starting === 0 || this.#starting + pool.instance_resources.vcpus <= this.#limit;
  }

  /** Takes the turn of one more instance of a pool. */
  take(pool: Pool): void {
    this.#starting += pool.instance_resources.vcpus;
  }
}
