import type { ReconcileResult } from "../node/reconcile.ts";
import type { CliContext } from "./context.ts";

/** Says what a reconcile could not bring about. Exit code 1, or 5 when only quotas stood in the way. */
export function reportReconcile(context: CliContext, result: ReconcileResult): void {
  if (result.converged) return;
  for (const { object, cause } of result.failures) context.out.note(`FAILED  ${object}: ${cause}`);
  for (const held of result.held) {
    context.out.note(`HELD    ${held.object}: ${held.reason}: ${held.detail}`);
  }
  const onlyQuota =
    result.failures.length === 0 &&
    result.held.length > 0 &&
    result.held.every(({ reason }) => reason === "quota");
  context.exitWith(onlyQuota ? 5 : 1);
}
