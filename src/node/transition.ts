import { formatInstance } from "../domain/ids.ts";
import { type Instance, addressOf, statusOf } from "../domain/instance.ts";
import { assertTransition } from "../domain/lifecycle.ts";
import type { NodeContext } from "./context.ts";

/** Why an instance failed, and when it may be started again. */
export interface FailureNote {
  readonly cause: string;
  readonly failures: number;
  readonly retry_at: string;
}

/**
 * Records an instance in another status: the one place where a status changes. Refuses what the
 * lifecycle table does not allow; writes the line of the audit log, and then the record. Anything
 * that was being done to an instance may fail, so failing is always allowed.
 *
 * @returns the record as it is now. @throws ConflictError when the table has no such transition.
 */
export async function transition(
  context: NodeContext,
  from: Instance,
  next: Instance,
  failure?: FailureNote,
): Promise<Instance> {
  const address = formatInstance(addressOf(from));
  const [before, after] = [statusOf(from), statusOf(next)];
  if (after !== "failed") assertTransition(address, before, after);
  const changed = { ...next, changes: from.changes + 1 };
  await context.audit.append(from.tenant_id, {
    type: "InstanceTransition",
    object: address,
    change: changed.changes,
    from: before,
    to: after,
    ...failure,
  });
  await context.store.saveInstance(changed);
  return changed;
}
