import { formatInstance, formatPool } from "../domain/ids.ts";
import { addressOf, resourcesOf, vmmOf } from "../domain/instance.ts";
import type { ObservedInstance } from "./observed.ts";
import { holdAsCritical, stopFor } from "./plan-surplus.ts";
import { type PoolPlanning, addressOfPool } from "./pool-planning.ts";

/** The instances of a pool as a rolling update sees them. */
export interface RolloutMembers {
  /** Running for users, oldest first. */
  readonly serving: readonly ObservedInstance[];
  /** Warm ones, and running ones on their way to be warm. */
  readonly spares: readonly ObservedInstance[];
  readonly failed: readonly ObservedInstance[];
  /** Those that no operator holds. */
  readonly free: ReadonlySet<ObservedInstance>;
  /** Whether this plan changes something of the pool already: then what it sees of it is about to be old. */
  readonly isBusy: boolean;
}

/** One failed start may be the host's; a second one in a row with the same image is the image's. */
const failuresOfImage = 2;

/**
 * Exchanges the instances that run another image or other resources than their pool has: so many at a
 * time as may be missing, each after the one before is healthy, spares first since nobody uses them. An
 * image whose instances do not become healthy is taken back. A pool without an update strategy is left
 * alone: each of its instances changes at its next start.
 */
export function planRollout(planning: PoolPlanning, members: RolloutMembers): void {
  const { pool, actions } = planning;
  const [current] = pool.revisions;
  if (pool.update_strategy === null || current === undefined) return;
  const living = [...members.spares, ...members.serving];
  const outdated = living.filter((member) => isOutdated(planning, member));
  // What fails with an image that was good before fails for another reason.
  const isProven = pool.good_revision === current;
  const failing = [...living, ...members.failed].find((member) => isFailing(planning, member));
  if (failing !== undefined && !isProven) {
    takeBack(planning, current, failing);
    return;
  }
  if (members.isBusy) return;
  if (pool.rejected_revision !== null) holdRejected(planning, pool.rejected_revision, current);
  if (outdated.length > 0) exchange(planning, members, outdated);
  else if (!isProven && isWhole(planning, members)) {
    actions.push({ kind: "confirm-image", pool: addressOfPool(pool), revision: current });
  }
}

function isOutdated({ pool }: PoolPlanning, { record }: ObservedInstance): boolean {
  const vmm = vmmOf(record);
  const has = resourcesOf(record, pool);
  const wanted = pool.instance_resources;
  return (
    vmm !== undefined &&
    (vmm.revision !== pool.revisions[0] ||
      has.vcpus !== wanted.vcpus ||
      has.mem_mib !== wanted.mem_mib)
  );
}

/** Whether an instance had its time with the current image, and is not well. */
function isFailing(planning: PoolPlanning, { record, health }: ObservedInstance): boolean {
  const { pool, input } = planning;
  const { state } = record;
  const [current] = pool.revisions;
  if (state.status === "failed") {
    return record.booted_revision === current && record.failures >= failuresOfImage;
  }
  if (state.status !== "running" || state.vmm.revision !== current || health === "healthy") {
    return false;
  }
  const timeout = pool.update_strategy?.health_timeout_seconds ?? pool.start_timeout_seconds;
  return Date.parse(state.since) + timeout * 1000 <= input.nowMs;
}

/** Goes back to the last image that was good. Without one, nothing more is exchanged: it would only get worse. */
function takeBack(planning: PoolPlanning, current: string, failing: ObservedInstance): void {
  const { pool, actions } = planning;
  const good = pool.good_revision;
  if (good !== null && pool.update_strategy?.rollback && pool.revisions.includes(good)) {
    if (pool.critical) {
      holdAsCritical(planning, formatPool(addressOfPool(pool)));
      return;
    }
    const address = addressOfPool(pool);
    actions.push({ kind: "rollback-image", pool: address, revision: good, from: current });
    return;
  }
  const name = formatInstance(addressOf(failing.record));
  holdUpdate(planning, `${name} is not well with image ${current.slice(0, 12)}`);
}

function exchange(
  planning: PoolPlanning,
  members: RolloutMembers,
  outdated: readonly ObservedInstance[],
): void {
  const { pool } = planning;
  if (pool.critical) {
    for (const { record } of outdated) holdAsCritical(planning, formatInstance(addressOf(record)));
    return;
  }
  const most = pool.update_strategy?.max_unavailable ?? 1;
  const isNew = (member: ObservedInstance): boolean => !outdated.includes(member);
  const missing = Math.max(0, pool.desired_counts.running - members.serving.length);
  const waited = [...members.serving, ...members.spares].filter(
    (member) => isNew(member) && isBooting(member),
  );
  const unhealthy = members.serving.filter(({ health }) => health !== "healthy").length;
  let moving = missing + waited.length;
  let unavailable = missing + unhealthy;
  const spares = outdated.filter((member) => members.spares.includes(member));
  // A spare is what the others fall back on: they are all new before one that serves is touched.
  const candidates = spares.length > 0 ? spares : notHealthyFirst(outdated);
  let left = 0;
  for (const member of candidates.filter((candidate) => members.free.has(candidate))) {
    const serves = !members.spares.includes(member);
    const costs = serves && member.health === "healthy" ? 1 : 0;
    // One that is not well is missing already: to exchange it costs nothing.
    if (moving >= most || (costs > 0 && unavailable + costs > most)) {
      left += 1;
      continue;
    }
    const why = `it runs an older image or other resources than ${formatPool(addressOfPool(pool))} has`;
    if (!stopFor(planning, member, why)) continue;
    moving += 1;
    unavailable += costs;
  }
  if (left > 0) {
    holdUpdate(planning, `instances still to be exchanged: ${outdated.length}, ${most} at a time`);
  }
}

function isBooting({ record, health }: ObservedInstance): boolean {
  return record.state.status === "running" && health !== "healthy";
}

function notHealthyFirst(members: readonly ObservedInstance[]): ObservedInstance[] {
  return [
    ...members.filter(({ health }) => health !== "healthy"),
    ...members.filter(({ health }) => health === "healthy"),
  ];
}

/** Whether all that should serve does, and nobody is on the way. */
function isWhole({ pool }: PoolPlanning, members: RolloutMembers): boolean {
  const { running, warm } = pool.desired_counts;
  const living = [...members.serving, ...members.spares];
  return (
    running + warm > 0 &&
    living.length > 0 &&
    members.serving.length >= running &&
    living.every(({ record, health }) => record.state.status !== "running" || health === "healthy")
  );
}

function holdUpdate(planning: PoolPlanning, detail: string): void {
  const object = formatPool(addressOfPool(planning.pool));
  planning.held.push({ object, reason: "waiting-for-update", detail });
}

function holdRejected(planning: PoolPlanning, rejected: string, current: string): void {
  planning.held.push({
    object: formatPool(addressOfPool(planning.pool)),
    reason: "rolled-back",
    detail: `instances with image ${rejected.slice(0, 12)} did not become healthy: it is ${current.slice(0, 12)} again until the document asks for another`,
  });
}
