import { formatInstance } from "../domain/ids.ts";
import { addressOf } from "../domain/instance.ts";
import { isOverridden } from "../domain/management.ts";
import type { Pool } from "../domain/pool.ts";
import { type Action, type Held, type Plan, objectOf } from "./action.ts";
import { minimumOf } from "./minimum-runtime.ts";
import type { ObservedInstance, ObservedTenant } from "./observed.ts";

/** Why an object is as it is. */
export interface Explanation {
  /** One sentence a line, for a person. */
  readonly because: readonly string[];
  /** What the plan of now does to it. */
  readonly actions: readonly Action[];
  /** What the plan of now holds back. */
  readonly held: readonly Held[];
}

/** An object by its address; a tenant is all that is below it. */
export type ExplainTarget =
  | { readonly kind: "tenant" }
  | { readonly kind: "pool"; readonly pool: Pool }
  | { readonly kind: "instance"; readonly pool: Pool; readonly instance: ObservedInstance };

/** Explains an object by what was observed and by the plan that was made of that. Pure, as the planner is. */
export function explain(
  observed: ObservedTenant,
  { actions, held }: Plan,
  target: ExplainTarget,
  nowMs: number,
): Explanation {
  const address = addressOfTarget(observed, target);
  // What holds a pool or tenant holds what is in it.
  const concerns = (object: string): boolean =>
    `${object}/`.startsWith(`${address}/`) || `${address}/`.startsWith(`${object}/`);
  return {
    because: [...tenantReasons(observed, nowMs), ...targetReasons(observed, target, nowMs)],
    actions: actions.filter((action) => concerns(objectOf(action))),
    held: held.filter(({ object }) => concerns(object)),
  };
}

function addressOfTarget({ tenant }: ObservedTenant, target: ExplainTarget): string {
  switch (target.kind) {
    case "tenant":
      return tenant.tenant_id;
    case "pool":
      return `${tenant.tenant_id}/${target.pool.pool_id}`;
    case "instance":
      return formatInstance(addressOf(target.instance.record));
  }
}

function tenantReasons(observed: ObservedTenant, nowMs: number): string[] {
  const { tenant, networkReady, pools } = observed;
  const reasons: string[] = [];
  if (tenant.destroying) reasons.push("the tenant is being destroyed: nothing is started");
  if (tenant.pinned) reasons.push("the tenant is pinned: surplus is not stopped");
  if (!networkReady && pools.length > 0) {
    reasons.push("the tenant's network is not as its records say: it is made first");
  }
  if (isOverridden(tenant, nowMs)) {
    reasons.push(`the tenant is overridden until ${tenant.override_until}: no document changes it`);
  }
  return reasons;
}

function targetReasons(observed: ObservedTenant, target: ExplainTarget, nowMs: number): string[] {
  switch (target.kind) {
    case "tenant":
      return observed.pools.flatMap((pool) => poolReasons(observed, pool, nowMs));
    case "pool":
      return poolReasons(observed, target.pool, nowMs);
    case "instance":
      return instanceReasons(target.pool, target.instance, nowMs);
  }
}

function poolReasons(observed: ObservedTenant, pool: Pool, nowMs: number): string[] {
  const name = `${pool.tenant_id}/${pool.pool_id}`;
  const { running, warm, sleeping } = pool.desired_counts;
  const members = observed.instances.filter(({ record }) => record.pool_id === pool.pool_id);
  const count = (status: string): number =>
    members.filter(({ record }) => record.state.status === status).length;
  const healthy = members.filter(({ health }) => health === "healthy").length;
  const reasons = [
    `${name}: ${running} running, ${warm} warm and ${sleeping} sleeping are wanted; ${count("running")} run (${healthy} healthy), ${count("warm")} are warm, ${count("failed")} failed, ${count("stopped")} are stopped`,
  ];
  if (pool.revisions.length === 0) reasons.push(`${name}: it has no image yet`);
  if (pool.critical) reasons.push(`${name}: it is critical: nothing is stopped or warmed`);
  if (pool.pinned) reasons.push(`${name}: it is pinned: what serves is not parked as a spare`);
  if (isOverridden(pool, nowMs)) {
    reasons.push(`${name}: it is overridden until ${pool.override_until}: no document changes it`);
  }
  return reasons;
}

function instanceReasons(pool: Pool, instance: ObservedInstance, nowMs: number): string[] {
  const { record, vmm, health, healthDetail } = instance;
  const { state, operation, spare, manual_override_until } = record;
  const since = "since" in state ? ` since ${state.since}` : "";
  const reasons = [`it is ${state.status}${since}${spare ? ", as a spare to be parked" : ""}`];
  if (state.status === "failed") {
    reasons.push(
      `it failed ${record.failures} times in a row, the last time because: ${state.cause}`,
    );
  }
  if (state.status === "running") {
    reasons.push(`its guest is ${health}${healthDetail === "" ? "" : `: ${healthDetail}`}`);
  }
  if (operation !== null) {
    const { kind, step, started_at } = operation;
    reasons.push(`an operation is open: ${kind}, at step ${step}, since ${started_at}`);
  }
  const shouldLive = state.status === "running" || state.status === "warm";
  if (shouldLive && vmm !== "recorded") {
    reasons.push(vmm === "none" ? "its VMM is gone" : "a VMM other than the recorded one lives");
  } else if (!shouldLive && vmm !== "none") reasons.push("a VMM lives that nobody recorded");
  if (manual_override_until !== null && Date.parse(manual_override_until) > nowMs) {
    reasons.push(`an operator moved it by hand: it is left alone until ${manual_override_until}`);
  }
  const minimum = minimumOf(pool, state, spare);
  if (minimum !== undefined && minimum.endMs > nowMs) {
    const end = new Date(minimum.endMs).toISOString();
    reasons.push(`it stays ${minimum.status} until ${end} at least: ${minimum.seconds} s`);
  }
  const [current] = pool.revisions;
  if (shouldLive && "vmm" in state && current !== undefined && state.vmm.revision !== current) {
    reasons.push(
      "it runs an older image than its pool has: it takes the new one at its next start",
    );
  }
  return reasons;
}
