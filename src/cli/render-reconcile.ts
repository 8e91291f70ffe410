import type { ReconcileResult } from "../node/reconcile.ts";
import type { CliContext } from "./context.ts";
import { hostLacksExitCode } from "./exit-codes.ts";

/** Says what a reconcile could not bring about. Exit code 1; 7 when the host lacks something, or 5 when only quotas stood in the way. */
export function reportReconcile(context: CliContext, result: ReconcileResult): void {
  if (result.converged) return;
  for (const { object, cause, hint } of result.failures) {
    context.out.note(`FAILED  ${object}: ${cause}`);
    if (hint !== null) context.out.note(`  next: ${hint}`);
  }
  for (const held of result.held) {
    context.out.note(`HELD    ${held.object}: ${held.reason}: ${held.detail}`);
  }
  const onlyQuota =
    result.failures.length === 0 &&
    result.held.length > 0 &&
    result.held.every(({ reason }) => reason === "quota");
  const lacks = result.failures.some(({ code }) => code === "host_lacks");
  context.exitWith(lacks ? hostLacksExitCode : onlyQuota ? 5 : 1);
}
