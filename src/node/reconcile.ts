import type { PoolId, TenantId } from "../domain/ids.ts";
import { type Held, type Plan, endsByItself, objectOf } from "../planner/action.ts";
import type { ObservedTenant } from "../planner/observed.ts";
import { plan } from "../planner/plan.ts";
import type { TenantRecords } from "../ports/store.ts";
import type { NodeContext } from "./context.ts";
import { HeldRecorder } from "./held-recorder.ts";
import { observeTenant } from "./observe.ts";
import { verifyNetworks } from "./networks.ts";
import { endOrphans } from "./orphans.ts";
import { loadTenant } from "./records.ts";
import { type ReconcileFailure, executeRound } from "./rounds.ts";

export const pollMs = 2000;
/** A wait that lasts is said again after so long. */
const repeatWaitMs = 30_000;
/** A command does not sit through longer waits than these; it reports them instead. */
const longestBackoffWaitMs = 5000;
const longestMinimumWaitMs = 120_000;
/** Of a network that is not as it should be; `mvm net verify` tells all. */
const maxToldDifferences = 5;
/** More passes than any tenant within its limits can need; a plan that never ends is a defect and is said so. */
const maxPasses = 2000;

type Failures = Map<string, { readonly failure: ReconcileFailure; readonly count: number }>;

export interface ReconcileResult {
  readonly converged: boolean;
  /** What the last plan held back. */
  readonly held: readonly Held[];
  /** Actions that failed in this run, the last failure of each object. */
  readonly failures: readonly ReconcileFailure[];
}

export interface ReconcileOptions {
  /** After so many failures of one object in this run it is given up and reported. */
  readonly maxFailures?: number;
  /** Pools to wait for and to report on; all of the tenant without it. What is planned for the others is done beside that. */
  readonly awaited?: ReadonlySet<PoolId>;
}

/** What would be done for a tenant whose records are these, with nothing changed. */
export async function planRecords(context: NodeContext, records: TenantRecords): Promise<Plan> {
  return planObserved(context, await observeTenant(context, records));
}

/** As `planRecords`, of what was observed already. */
export function planObserved(context: NodeContext, observed: ObservedTenant): Plan {
  return plan({
    tenants: [observed],
    capabilities: context.vmm.capabilities,
    startingVcpus: context.settings.startingVcpus,
    nowMs: context.clock.nowMs(),
  });
}

/**
 * Brings a tenant to what its records say: observe, plan, execute, and again, until nothing is
 * planned and nothing is left that waiting would end. An object that fails does not hold up others.
 * The caller holds the tenant's lock.
 */
export async function reconcileTenant(
  context: NodeContext,
  tenant: TenantId,
  { maxFailures = 2, awaited }: ReconcileOptions = {},
): Promise<ReconcileResult> {
  const failures: Failures = new Map();
  await endOrphans(context);
  const reporter = new WaitReporter(context);
  const recorder = new HeldRecorder(context, tenant);
  const isAwaited = (object: string): boolean => {
    const [, pool] = object.split("/");
    return awaited === undefined || pool === undefined || awaited.has(pool as PoolId);
  };
  for (let pass = 0; pass < maxPasses; pass += 1) {
    context.signal.throwIfAborted();
    const observed = await observeTenant(context, await loadTenant(context, tenant));
    const networkReady =
      observed.networkReady && (pass > 0 || (await isNetworkWhole(context, observed)));
    const next = planObserved(context, { ...observed, networkReady });
    await recorder.record(next.held);
    const givenUp = (object: string): boolean => (failures.get(object)?.count ?? 0) >= maxFailures;
    const actions = next.actions.filter((action) => !givenUp(objectOf(action)));
    const held = next.held.filter(({ object }) => isAwaited(object));
    const waits = held.filter((wait) => endsByItself(wait) && !givenUp(wait.object));
    if (actions.length === 0 && !worthWaiting(waits, context.clock.nowMs())) {
      return {
        converged: held.length === 0 && !next.actions.some((left) => isAwaited(objectOf(left))),
        held,
        failures: [...failures]
          .filter(([object]) => isAwaited(object))
          .map(([, { failure }]) => failure),
      };
    }
    if (actions.length > 0) {
      await executeRound(context, actions, {
        failed: (failure) => {
          const { object } = failure;
          failures.set(object, { failure, count: (failures.get(object)?.count ?? 0) + 1 });
        },
        succeeded: () => undefined,
        isOver: () => false,
      });
    } else {
      reporter.report(waits);
      await context.clock.sleep(pollMs, context.signal);
    }
  }
  throw new Error(`tenant ${tenant} did not converge in ${maxPasses} passes`);
}

/**
 * Whether every link, rule and setting is as the records say. What a pass observes tells only what is
 * there at all; a single rule that somebody took out is found by this comparison, once a run.
 */
async function isNetworkWhole(context: NodeContext, { pools }: ObservedTenant): Promise<boolean> {
  if (pools.length === 0) return true;
  const differences = await verifyNetworks(context);
  for (const { name, problem } of differences.slice(0, maxToldDifferences)) {
    context.onProgress(`network: ${name}: ${problem}; it is put right`);
  }
  return differences.length === 0;
}

/** Says what is waited for: when it begins, when its reason changes, and now and then while it lasts. */
export class WaitReporter {
  readonly #context: NodeContext;
  readonly #last = new Map<string, { readonly reason: string; readonly atMs: number }>();

  constructor(context: NodeContext) {
    this.#context = context;
  }

  report(waits: readonly Held[]): void {
    const nowMs = this.#context.clock.nowMs();
    for (const { object, reason, detail } of waits) {
      const last = this.#last.get(object);
      if (last?.reason === reason && nowMs - last.atMs < repeatWaitMs) continue;
      this.#last.set(object, { reason, atMs: nowMs });
      this.#context.onProgress(`${object}: ${reason}: ${detail}`);
    }
  }
}

function longestWaitMs({ reason }: Held): number {
  if (reason === "backoff") return longestBackoffWaitMs;
  return reason === "minimum-runtime" ? longestMinimumWaitMs : Infinity;
}

/** What waits for a gateway or its turn ends only when something happens to others, and those have waits of their own; a long backoff is the daemon's to wait for. */
export function worthWaiting(waits: readonly Held[], nowMs: number): boolean {
  return waits.some(
    (held) =>
      held.reason !== "waiting-for-gateway" &&
      held.reason !== "waiting-for-update" &&
      held.reason !== "waiting-for-prune" &&
      held.reason !== "start-limit" &&
      (held.untilMs ?? 0) - nowMs <= longestWaitMs(held),
  );
}
