import { type ErrorCode, MvmError, describeError, hintOf } from "../domain/errors.ts";
import { type Action, objectOf, tenantOf } from "../planner/action.ts";
import type { NodeContext } from "./context.ts";
import { execute } from "./execute.ts";
import { note } from "./refuse.ts";

export interface ReconcileFailure {
  readonly object: string;
  readonly cause: string;
  readonly code: ErrorCode;
  /** What to do next; null when nobody knows. */
  readonly hint: string | null;
}

/** What is told of the actions of a round as they end. */
export interface RoundReport {
  failed(failure: ReconcileFailure): void;
  succeeded(object: string): void;
  /** Whether the rest of the round is not wanted any more; asked before each action. */
  isOver(): boolean;
  /** Waits for a turn before each action, where others work beside. */
  slot?<T>(work: () => Promise<T>): Promise<T>;
}

/** These come before all else of their tenant, one after the other: the rest needs what they make. */
const firstKinds: ReadonlySet<Action["kind"]> = new Set([
  "apply-tenant",
  "apply-pool",
  "ensure-network",
]);

/**
 * Carries out the actions of one tenant: first what the others need, then the others side by side, up to
 * the limit of the node. One that fails does not hold up others. The caller holds the tenant's lock.
 */
export async function executeRound(
  context: NodeContext,
  actions: readonly Action[],
  report: RoundReport,
): Promise<void> {
  const queue = actions.filter(({ kind }) => !firstKinds.has(kind));
  for (const action of actions.filter(({ kind }) => firstKinds.has(kind))) {
    if (report.isOver()) return;
    const isDone = await executeOne(context, action, report);
    // Without its tenant nothing else can be.
    if (!isDone && action.kind === "apply-tenant") return;
  }
  const worker = async (): Promise<void> => {
    for (let action = queue.shift(); action !== undefined; action = queue.shift()) {
      if (report.isOver()) return;
      await executeOne(context, action, report);
    }
  };
  const workers = Math.min(context.settings.parallelActions, queue.length);
  // All of them end before the caller lets the tenant's lock go, also when one was interrupted: a worker
  // that went on without the lock could bring back what another command has destroyed meanwhile.
  const ends = await Promise.allSettled(Array.from({ length: workers }, worker));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
}

/** @returns whether it was done. */
async function executeOne(
  context: NodeContext,
  action: Action,
  report: RoundReport,
): Promise<boolean> {
  context.signal.throwIfAborted();
  const object = objectOf(action);
  const work = (): Promise<void> => execute(context, action);
  try {
    await (report.slot === undefined ? work() : report.slot(work));
    report.succeeded(object);
    return true;
  } catch (error) {
    if (context.signal.aborted) throw error;
    const cause = describeError(error);
    const code = error instanceof MvmError ? error.code : "failed";
    report.failed({ object, cause, code, hint: hintOf(error) ?? null });
    context.onProgress(`${object}: ${action.kind} failed: ${cause}`);
    const event = { type: "ActionFailed", object, action: action.kind, cause } as const;
    await note(context, tenantOf(action), event);
    return false;
  }
}
