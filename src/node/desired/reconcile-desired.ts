import { parseDesiredState } from "../../domain/desired-state-schema.ts";
import type { DesiredState } from "../../domain/desired-state.ts";
import { type Plan, endsByItself } from "../../planner/action.ts";
import type { AcceptedDesired } from "../../ports/desired-store.ts";
import type { NodeContext } from "../context.ts";
import { type ReconcileResult, WaitReporter, pollMs, worthWaiting } from "../reconcile.ts";
import { type DesiredRequest, acceptDesired, checkDesired } from "./accept.ts";
import { type DocumentInForce, Reconciler, noDocument } from "./reconciler.ts";

export interface ReconcileDesiredOptions {
  /** Removes what no document names, whatever the document says of that. */
  readonly prune: boolean;
}

/** More steps than any node within its limits can need; a plan that never ends is a defect and is said so. */
const maxSteps = 100_000;

/** What would be done next for a document, or for the one in force, with nothing changed. @throws DesiredRefusedError */
export async function planDesired(
  context: NodeContext,
  request: DesiredRequest | undefined,
  { prune }: ReconcileDesiredOptions,
): Promise<Plan> {
  const inForce =
    request === undefined
      ? readInForce(await context.desired.load())
      : await checkDesired(context, request);
  return new Reconciler(context).plan(withPrune(inForce, prune));
}

/**
 * Takes a document and brings the node to it, until nothing is planned and nothing is left that waiting
 * would end.
 * @throws DesiredRefusedError when it is not taken.
 */
export async function reconcileDesired(
  context: NodeContext,
  request: DesiredRequest,
  { prune }: ReconcileDesiredOptions,
): Promise<ReconcileResult> {
  await acceptDesired(context, request);
  const inForce = withPrune(readInForce(await context.desired.load()), prune);
  const reconciler = new Reconciler(context);
  const reporter = new WaitReporter(context);
  try {
    for (let step = 0; step < maxSteps; step += 1) {
      context.signal.throwIfAborted();
      const { actions, held } = await reconciler.step(inForce);
      if (reconciler.busy > 0) {
        await reconciler.settled();
        continue;
      }
      const waits = held.filter((wait) => endsByItself(wait));
      if (actions.length === 0 && !worthWaiting(waits, context.clock.nowMs())) {
        const failures = [...reconciler.failures.values()];
        return { converged: held.length === 0, held, failures };
      }
      reporter.report(waits);
      await context.clock.sleep(pollMs, context.signal);
    }
  } finally {
    // Nobody works on a tenant after the command has let it go.
    reconciler.end();
    await reconciler.idle();
  }
  throw new Error(`the node did not converge in ${maxSteps} steps`);
}

/** The document that a node keeps, as a reconciler works with it. */
export function readInForce(accepted: AcceptedDesired | undefined): DocumentInForce {
  if (accepted === undefined) return noDocument;
  return { document: parseDesiredState(accepted.document), hash: accepted.hash };
}

function withPrune(
  { document, hash }: { readonly document: DesiredState | undefined; readonly hash: string },
  prune: boolean,
): DocumentInForce {
  if (document === undefined || !prune) return { document, hash };
  const pruning = { prune_unknown_tenants: true, prune_unknown_pools: true };
  return { document: { ...document, ...pruning }, hash };
}
