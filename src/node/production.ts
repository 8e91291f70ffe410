import { type AuditEvent, nodeLog } from "../domain/audit.ts";
import { MvmError, describeError } from "../domain/errors.ts";
import type { TenantId } from "../domain/ids.ts";
import {
  type ProductionView,
  PromiseLackingError,
  describeStandings,
  developmentView,
  judgePromises,
  requireKept,
  viewProduction,
} from "../domain/production.ts";
import type { NodeContext } from "./context.ts";
import { note } from "./refuse.ts";

/**
 * Refuses to start what runs guests' code while, in production, a promise is not kept and nobody waived it.
 * Looks anew each time: a waiver ends by the clock, and a host changes. What runs already is left alone.
 * The caller holds the tenant's lock. @throws PromiseLackingError, written down in the tenant's log.
 */
export async function requirePromises(
  context: NodeContext,
  tenant: TenantId,
  about: { readonly object: string; readonly command: string },
): Promise<void> {
  if (!context.settings.production) return;
  const findings = await context.production.look();
  try {
    requireKept(findings, context.clock.nowMs());
  } catch (error) {
    if (!(error instanceof PromiseLackingError)) throw error;
    const { promises, message: cause } = error;
    await note(context, tenant, { type: "StartRefused", ...about, promises, cause });
    throw error;
  }
}

/** What this node enforces, does without, and lacks now. */
export async function productionView(context: NodeContext): Promise<ProductionView> {
  if (!context.settings.production) return developmentView;
  return viewProduction(await context.production.look(), context.clock.nowMs());
}

/**
 * What a daemon says at its start: a line for each promise, enforced, waived or lacking; nothing in development.
 * It is in the node's log before it is said. A daemon that lacks a promise, or whose log cannot be written, goes
 * on all the same: it answers, and each start is refused.
 */
export async function announceProduction(context: NodeContext): Promise<string[]> {
  if (!context.settings.production) return [];
  const findings = await context.production.look();
  const nowMs = context.clock.nowMs();
  const view = viewProduction(findings, nowMs);
  const { lacking, waivers_problem } = view;
  return [
    ...(await writtenDown(context, view)),
    ...describeStandings(judgePromises(findings, nowMs)),
    ...(waivers_problem === null ? [] : [`NO WAIVER HOLDS: ${waivers_problem}`]),
    ...(lacking.length === 0
      ? []
      : [`no microVM starts on this node while it lacks ${lacking.join(", ")}`]),
  ];
}

/** @returns why it could not be written down, if it could not. */
async function writtenDown(context: NodeContext, view: ProductionView): Promise<string[]> {
  const { enforced, waivers, lacking, waivers_problem } = view;
  const waived = waivers.map(({ promise }) => promise);
  const events: AuditEvent[] = [
    {
      type: "ProductionStarted",
      object: nodeLog,
      enforced,
      waived,
      lacking,
      waivers_problem,
    },
    ...waivers.map(({ promise, reason, until }): AuditEvent => ({
      type: "PromiseWaived",
      object: nodeLog,
      promise,
      reason,
      until,
    })),
  ];
  try {
    await context.locks.withNode("writing down what is enforced", async () => {
      for (const event of events) await context.audit.append(nodeLog, event);
    });
    return [];
  } catch (error) {
    if (!(error instanceof MvmError)) throw error;
    return [`what is enforced could not be written down: ${describeError(error)}`];
  }
}
