import { formatInstance } from "../domain/ids.ts";
import { addressOf } from "../domain/instance.ts";
import { minimumOf } from "./minimum-runtime.ts";
import type { ObservedInstance } from "./observed.ts";
import { type PoolPlanning, heldByQuota } from "./pool-planning.ts";

/** Puts an instance aside as a warm spare, unless something holds it. */
export function park(planning: PoolPlanning, member: ObservedInstance): void {
  const { state, spare } = member.record;
  const object = formatInstance(addressOf(member.record));
  if (state.status !== "running") return;
  if (planning.pool.critical) {
    holdAsCritical(planning, object);
    return;
  }
  if (member.health !== "healthy") {
    // Surplus that did not become healthy in its time is stopped, not kept as a spare.
    if (!spare && isOverdue(planning, state.since)) stopSurplus(planning, member);
    else watchHealth(planning, member);
    return;
  }
  if (deferredByMinimum(planning, member, "warm")) return;
  const excess = spare ? undefined : planning.usage.takeWarm();
  if (excess !== undefined) {
    planning.held.push(heldByQuota(object, excess));
    return;
  }
  planning.actions.push({ kind: "warm-instance", instance: addressOf(member.record) });
}

/** Stops an instance that is more than is wanted, unless something holds it. */
export function stopSurplus(planning: PoolPlanning, member: ObservedInstance): void {
  stopFor(planning, member, "it is more than is wanted");
}

/** Stops an instance for a reason, unless something holds it. @returns whether it is stopped. */
export function stopFor(planning: PoolPlanning, member: ObservedInstance, why: string): boolean {
  const object = formatInstance(addressOf(member.record));
  if (planning.pool.critical) {
    holdAsCritical(planning, object);
    return false;
  }
  if (planning.observed.tenant.pinned) {
    const detail = `${why}; an instance of a pinned tenant is not stopped`;
    planning.held.push({ object, reason: "pinned", detail });
    return false;
  }
  if (deferredByMinimum(planning, member, "stopped")) return false;
  planning.actions.push({ kind: "stop-instance", instance: addressOf(member.record) });
  return true;
}

export function holdAsCritical(planning: PoolPlanning, object: string): void {
  const detail = "instances of a critical pool are made and repaired, and never stopped or warmed";
  planning.held.push({ object, reason: "critical", detail });
}

/** Whether the pool's minimum holds back what would end an instance's running or warm time. One that does not serve yet has no time to keep. */
function deferredByMinimum(
  planning: PoolPlanning,
  member: ObservedInstance,
  to: "warm" | "stopped",
): boolean {
  const { state, spare } = member.record;
  const minimum = minimumOf(planning.pool, state, spare);
  if (minimum === undefined || (minimum.status === "running" && member.health !== "healthy")) {
    return false;
  }
  const untilMs = minimum.endMs;
  if (untilMs <= planning.input.nowMs) return false;
  planning.held.push({
    object: formatInstance(addressOf(member.record)),
    reason: "minimum-runtime",
    detail: `it stays ${minimum.status} for at least ${minimum.seconds} s before it is ${to}`,
    untilMs,
    to,
  });
  return true;
}

/** Holds an instance that is not healthy: for as long as it may take, and then for good. */
export function watchHealth(planning: PoolPlanning, member: ObservedInstance): void {
  const { state } = member.record;
  if (member.health === "healthy" || state.status !== "running") return;
  const object = formatInstance(addressOf(member.record));
  const detail = member.healthDetail === "" ? "its guest has not said so yet" : member.healthDetail;
  if (isOverdue(planning, state.since)) {
    planning.held.push({ object, reason: "unhealthy", detail });
    return;
  }
  const untilMs = Date.parse(state.since) + planning.pool.start_timeout_seconds * 1000;
  planning.held.push({ object, reason: "waiting-for-health", detail, untilMs });
}

/** Whether an instance has run for longer than its pool gives it to become healthy. */
function isOverdue(planning: PoolPlanning, since: string): boolean {
  const endMs = Date.parse(since) + planning.pool.start_timeout_seconds * 1000;
  return endMs <= planning.input.nowMs;
}
