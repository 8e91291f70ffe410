import { formatInstance, formatPool } from "../domain/ids.ts";
import { addressOf } from "../domain/instance.ts";
import type { Pool } from "../domain/pool.ts";
import { backoffEndsMs } from "./backoff.ts";
import type { ObservedInstance } from "./observed.ts";
import { planRollout } from "./plan-rollout.ts";
import { holdAsCritical, park, stopSurplus, watchHealth } from "./plan-surplus.ts";
import { type PoolPlanning, addressOfPool, heldByQuota } from "./pool-planning.ts";

/** The instances of a pool, by what a plan may do with them. Each list is oldest first. */
interface Members {
  /** Those that are settled this time; what becomes of them is planned next time. */
  readonly settling: number;
  /** Running for users. */
  readonly serving: readonly ObservedInstance[];
  /** Those of `serving` that no operator holds. */
  readonly movable: readonly ObservedInstance[];
  /** Warm instances, and running ones that are on their way to be warm. */
  readonly spares: readonly ObservedInstance[];
  readonly startable: ObservedInstance[];
  /** Failed, and not to be tried yet. Each fills its place itself later: making another would multiply the failure. */
  readonly backingOff: readonly ObservedInstance[];
  readonly failed: readonly ObservedInstance[];
  /** Settled, and held by no operator. */
  readonly free: ReadonlySet<ObservedInstance>;
  readonly total: number;
}

/** Plans one pool: settle what was interrupted, build, fill the running deficit, then the warm spares, then take surplus away. */
export function planPool(planning: PoolPlanning): void {
  const { pool, actions, held } = planning;
  const wanted = pool.desired_counts;
  const before = actions.length;
  const members = membersOf(planning);
  if (wanted.sleeping > 0 && !planning.input.capabilities.memorySnapshot) {
    held.push({
      object: formatPool(addressOfPool(pool)),
      reason: "not-supported",
      detail: "this host's VMM driver keeps no memory snapshots, so no instance sleeps",
    });
  }
  if (wanted.running + wanted.warm > 0) {
    if (pool.revisions.length === 0) {
      actions.push({ kind: "build-image", pool: addressOfPool(pool) });
      return;
    }
    // What runs goes on meanwhile, and for good should the build fail.
    if (isBuiltFromOther(pool)) actions.push({ kind: "build-image", pool: addressOfPool(pool) });
  }
  const spares = [...members.spares];
  const running = fillRunning(planning, members, spares);
  fillWarm(planning, members, spares, running);
  for (const member of members.serving) watchHealth(planning, member);
  planRollout(planning, {
    ...members,
    isBusy: actions.length > before,
  });
}

/** Plans the end of a pool that no document names any more: its instances are stopped, then destroyed, then it goes. */
export function prunePool(planning: PoolPlanning): void {
  const { pool, actions } = planning;
  planPool(planning);
  const members = membersOf({ ...planning, actions: [], held: [] });
  for (const member of members.free) {
    const { status } = member.record.state;
    if (status === "running" || status === "warm") continue;
    actions.push({ kind: "destroy-instance", instance: addressOf(member.record) });
  }
  if (members.total === 0) actions.push({ kind: "remove-pool", pool: addressOfPool(pool) });
}

/** Whether the newest image was made of another flake or profile than the pool's document asks for. */
function isBuiltFromOther({ update_strategy, built_from, flake_ref, profile }: Pool): boolean {
  if (update_strategy === null || built_from === null) return false;
  return built_from.flake_ref !== flake_ref || built_from.profile !== profile;
}

function membersOf(planning: PoolPlanning): Members {
  const all = planning.observed.instances
    .filter(({ record }) => record.pool_id === planning.pool.pool_id)
    .toSorted((a, b) => compareAge(a, b));
  const steady = all.filter((member) => !settle(planning, member));
  const free = steady.filter((member) => !overridden(planning, member));
  const serving = steady.filter((member) => isRunning(member) && !member.record.spare);
  const parked = free.filter(({ record }) => record.state.status === "warm");
  const runningSpares = free.filter((member) => isRunning(member) && member.record.spare);
  const startable = free.filter((member) => isStartable(planning, member));
  return {
    settling: all.length - steady.length,
    serving,
    movable: serving.filter((member) => free.includes(member)),
    spares: [...parked, ...runningSpares],
    startable,
    failed: steady.filter(({ record }) => record.state.status === "failed"),
    free: new Set(free),
    total: all.length,
    backingOff: free.filter(
      (member) => member.record.state.status === "failed" && !startable.includes(member),
    ),
  };
}

/** How the running deficit was filled. */
interface RunningFill {
  readonly isShort: boolean;
  /** Instances that are settled or tried again later, and that no running place waits for: each fills a warm one. */
  readonly left: number;
}

/** Resumes spares, then starts, then creates. */
function fillRunning(
  planning: PoolPlanning,
  members: Members,
  spares: ObservedInstance[],
): RunningFill {
  const deficit = planning.pool.desired_counts.running - members.serving.length;
  const settlingLeft = Math.max(0, members.settling - Math.max(0, deficit));
  let missing = deficit - members.settling;
  while (missing > 0 && spares.length > 0) {
    const spare = spares.shift();
    if (spare !== undefined && resume(planning, spare)) missing -= 1;
  }
  const retried = members.backingOff.filter(({ record }) => !record.spare).length;
  const retriedLeft = Math.max(0, retried - Math.max(0, missing));
  const short = fill(planning, missing - retried, members.startable, false);
  return { isShort: short > 0, left: settlingLeft + retriedLeft };
}

/** Parks the newest surplus and the spares that are healthy, starts or creates spares, and stops what is too much. */
function fillWarm(
  planning: PoolPlanning,
  members: Members,
  spares: readonly ObservedInstance[],
  running: RunningFill,
): void {
  const wanted = planning.pool.desired_counts;
  const excess = Math.max(0, members.serving.length - wanted.running);
  const surplus = members.movable.slice(Math.max(0, members.movable.length - excess));
  let missing = wanted.warm - spares.length;
  // One that serves in a pinned or critical pool is not put aside.
  while (missing > 0 && surplus.length > 0 && !planning.pool.pinned && !planning.pool.critical) {
    const newest = surplus.pop();
    if (newest !== undefined) park(planning, newest);
    missing -= 1;
  }
  missing -= members.backingOff.filter(({ record }) => record.spare).length + running.left;
  if (planning.pool.critical && missing > 0)
    holdAsCritical(planning, formatPool(addressOfPool(planning.pool)));
  else if (!running.isShort) fill(planning, missing, members.startable, true);
  for (const member of surplus.toReversed()) stopSurplus(planning, member);
  for (const member of spares.slice(wanted.warm).toReversed()) stopSurplus(planning, member);
  for (const member of spares.slice(0, wanted.warm)) {
    if (isRunning(member)) park(planning, member);
  }
}

/** An operation without a worker, or a VMM that is not as recorded, is settled before anything else is planned for it. */
function settle(planning: PoolPlanning, member: ObservedInstance): boolean {
  const { state, operation } = member.record;
  const shouldRun = state.status === "running" || state.status === "warm";
  const asRecorded = shouldRun ? member.vmm === "recorded" : member.vmm === "none";
  if (operation === null && asRecorded) return false;
  planning.actions.push({ kind: "settle-instance", instance: addressOf(member.record) });
  return true;
}

function overridden(planning: PoolPlanning, member: ObservedInstance): boolean {
  const until = member.record.manual_override_until;
  if (until === null || Date.parse(until) <= planning.input.nowMs) return false;
  planning.held.push({
    object: formatInstance(addressOf(member.record)),
    reason: "manual-override",
    detail: `an operator moved it by hand; it is left alone until ${until}`,
    untilMs: Date.parse(until),
  });
  return true;
}

function isRunning(member: ObservedInstance): boolean {
  return member.record.state.status === "running";
}

function isStartable(planning: PoolPlanning, member: ObservedInstance): boolean {
  const { state, failures } = member.record;
  if (state.status !== "failed") {
    return state.status === "created" || state.status === "ready" || state.status === "stopped";
  }
  const untilMs = backoffEndsMs(Date.parse(state.since), failures);
  if (untilMs <= planning.input.nowMs) return true;
  planning.held.push({
    object: formatInstance(addressOf(member.record)),
    reason: "backoff",
    detail: `it failed ${failures} times in a row: ${state.cause}`,
    untilMs,
  });
  return false;
}

/** Starts or creates up to `count` instances. @returns how many are still missing. */
function fill(
  planning: PoolPlanning,
  count: number,
  startable: ObservedInstance[],
  spare: boolean,
): number {
  const { pool, gateway, usage, actions, held } = planning;
  let missing = count;
  if (missing <= 0) return missing;
  if (gateway !== undefined) {
    held.push({
      object: formatPool(addressOfPool(pool)),
      reason: "waiting-for-gateway",
      detail: `pool ${gateway.pool_id} does not serve yet`,
    });
    return missing;
  }
  while (missing > 0) {
    const [next] = startable;
    if (next !== undefined && !planning.starts.hasRoom(pool)) {
      held.push({
        object: formatPool(addressOfPool(pool)),
        reason: "start-limit",
        detail:
          "instances that are not healthy yet have the host's vCPUs; the next starts after them",
      });
      return missing;
    }
    startable.shift();
    if (next === undefined && !usage.hasAddress()) {
      held.push({
        object: formatPool(addressOfPool(pool)),
        reason: "no-address",
        detail: "the tenant's subnet has no address left: destroy instances that are not needed",
      });
      return missing;
    }
    const excess =
      next === undefined ? usage.takeCreate(pool, spare) : usage.takeStart(pool, spare);
    if (excess !== undefined) {
      held.push(heldByQuota(formatPool(addressOfPool(pool)), excess));
      return missing;
    }
    if (next === undefined) actions.push({ kind: "create-instance", pool: addressOfPool(pool) });
    else {
      planning.starts.take(pool);
      actions.push({ kind: "start-instance", instance: addressOf(next.record), spare });
    }
    missing -= 1;
  }
  return missing;
}

function resume(planning: PoolPlanning, member: ObservedInstance): boolean {
  const excess = planning.usage.takeResume();
  const object = formatInstance(addressOf(member.record));
  if (excess !== undefined) {
    planning.held.push(heldByQuota(object, excess));
    return false;
  }
  planning.actions.push({ kind: "resume-instance", instance: addressOf(member.record) });
  return true;
}

function compareAge(a: ObservedInstance, b: ObservedInstance): number {
  if (a.record.created_at !== b.record.created_at) {
    return a.record.created_at < b.record.created_at ? -1 : 1;
  }
  return a.record.net_offset - b.record.net_offset;
}
