import { ConflictError, UsageError } from "../domain/errors.ts";
import type { TenantId } from "../domain/ids.ts";
import { type Managed, isOverridden } from "../domain/management.ts";
import type { NodeContext } from "./context.ts";
import { note } from "./refuse.ts";

/** What an operator is about to change. */
export interface OperatorChange {
  readonly tenant: TenantId;
  /** Address of the tenant or pool. */
  readonly object: string;
  /** The command, as the audit log names it: `pool scale`. */
  readonly command: string;
  /** For how long the operator takes the object from its document, in milliseconds. */
  readonly overrideMs?: number | undefined;
}

/**
 * Lets an operator change an object that is managed locally, or that is overridden: what a document
 * manages is the coordinator's to change. An override is written down.
 *
 * @returns until when the object is overridden, to be saved with the change.
 * @throws ConflictError when a document manages the object; UsageError when there is nothing to override.
 */
export async function allowChange(
  context: NodeContext,
  managed: Managed,
  change: OperatorChange,
): Promise<string | null> {
  const { tenant, object, command, overrideMs } = change;
  const nowMs = context.clock.nowMs();
  if (managed.managed_by === "local") {
    if (overrideMs === undefined) return null;
    throw new UsageError(`${object} is managed on this node: there is no document to override`, {
      hint: "leave --override out",
    });
  }
  if (overrideMs !== undefined) {
    const until = new Date(nowMs + overrideMs).toISOString();
    await context.audit.append(tenant, { type: "DocumentOverridden", object, command, until });
    context.onProgress(`${object}: its document is overridden until ${until}`);
    return until;
  }
  if (isOverridden(managed, nowMs)) return managed.override_until;
  const cause = `${object} is managed by a document: it is changed there`;
  await note(context, tenant, { type: "Refused", object, command, cause });
  throw new ConflictError(cause, {
    hint: "change the document and push it; in an emergency take it over for a while with --override 10m",
  });
}
