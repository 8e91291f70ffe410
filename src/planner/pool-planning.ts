import type { PoolAddress } from "../domain/ids.ts";
import type { Pool } from "../domain/pool.ts";
import { type QuotaExcess, describeExcess } from "../domain/quota.ts";
import type { Action, Held } from "./action.ts";
import type { ObservedTenant } from "./observed.ts";
import type { PlanInput } from "./plan.ts";
import type { StartLimit } from "./start-limit.ts";
import type { Usage } from "./usage.ts";

/** What planning a pool works with: what is seen, and the plan that grows. */
export interface PoolPlanning {
  readonly pool: Pool;
  readonly observed: ObservedTenant;
  readonly usage: Usage;
  /** The gateway pool that must serve first. */
  readonly gateway: Pool | undefined;
  readonly starts: StartLimit;
  readonly input: PlanInput;
  readonly actions: Action[];
  readonly held: Held[];
}

export function heldByQuota(object: string, excess: QuotaExcess): Held {
  return { object, reason: "quota", detail: describeExcess(excess), quota: excess };
}

export function addressOfPool(pool: Pool): PoolAddress {
  return { tenant: pool.tenant_id, pool: pool.pool_id };
}
