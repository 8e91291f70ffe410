import { describeError, MvmError } from "../domain/errors.ts";
import type { AuditEvent, AuditLogName } from "../domain/audit.ts";
import type { TenantId } from "../domain/ids.ts";
import { type QuotaExcess, QuotaError } from "../domain/quota.ts";
import type { NodeContext } from "./context.ts";

/** Refuses what a quota forbids, if it does, and writes that down. @throws QuotaError */
export async function refuseExcess(
  context: NodeContext,
  tenant: TenantId,
  about: { readonly object: string; readonly command: string },
  excess: QuotaExcess | undefined,
): Promise<void> {
  if (excess === undefined) return;
  await note(context, tenant, { type: "QuotaRefused", ...about, ...excess });
  throw new QuotaError(tenant, excess);
}

/** Writes down a refusal. One that cannot be written down is a refusal all the same. */
export async function note(
  context: NodeContext,
  log: AuditLogName,
  event: AuditEvent,
): Promise<void> {
  try {
    await context.audit.append(log, event);
  } catch (error) {
    if (!(error instanceof MvmError)) throw error;
    context.onProgress(describeError(error));
  }
}
