import type { PlanView } from "../node/operations.ts";
import type { CliContext } from "./context.ts";

/** Prints what would be done next, and what is held back and why. */
export function printPlan({ out }: CliContext, plan: PlanView, json: boolean): void {
  if (json) {
    out.json(plan);
    return;
  }
  for (const { kind, object } of plan.actions) out.data(`${kind} ${object}`);
  for (const held of plan.held) out.data(`held ${held.object}: ${held.reason}: ${held.detail}`);
}
