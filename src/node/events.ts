import { NotFoundError } from "../domain/errors.ts";
import { type AuditLogName, nodeLog } from "../domain/audit.ts";
import { hintOfNames } from "../domain/nearest.ts";
import type { AuditEntry, AuditVerdict } from "../ports/audit.ts";
import type { NodeContext } from "./context.ts";

const pollMs = 1000;

/** The last lines of a tenant's audit log, oldest first; also of a tenant that is gone. @throws NotFoundError when there is no log. */
export async function lastEvents(
  context: NodeContext,
  tenant: AuditLogName,
  count: number,
): Promise<AuditEntry[]> {
  const entries = await context.audit.last(tenant, count);
  if (entries === undefined) throw await noLog(context, tenant);
  return entries;
}

/** Checks a tenant's audit log. @throws NotFoundError when there is no log. */
export async function verifyEvents(
  context: NodeContext,
  tenant: AuditLogName,
): Promise<AuditVerdict> {
  const verdict = await context.audit.verify(tenant);
  if (verdict === undefined) throw await noLog(context, tenant);
  return verdict;
}

/** Hands over each line that comes after number `after`, until the operator leaves. */
export async function followEvents(
  context: NodeContext,
  tenant: AuditLogName,
  after: number,
  onEntry: (entry: AuditEntry) => void,
): Promise<void> {
  let seen = after;
  while (!context.signal.aborted) {
    for (const entry of await eventsAfter(context, tenant, seen)) {
      onEntry(entry);
      seen = entry.sequence;
    }
    try {
      await context.clock.sleep(pollMs, context.signal);
    } catch (error) {
      if (!context.signal.aborted) throw error;
    }
  }
}

/** Reads as far back as it takes, up to what a log of a busy hour holds. */
async function eventsAfter(
  context: NodeContext,
  tenant: AuditLogName,
  after: number,
): Promise<AuditEntry[]> {
  for (let count = 100; ; count *= 10) {
    const entries = (await context.audit.last(tenant, count)) ?? [];
    const reachesBack = (entries[0]?.sequence ?? 0) <= after + 1;
    if (reachesBack || entries.length < count || count >= 100_000) {
      return entries.filter(({ sequence }) => sequence > after);
    }
  }
}

async function noLog(context: NodeContext, tenant: AuditLogName): Promise<NotFoundError> {
  if (tenant === nodeLog) return new NotFoundError("nothing happened to this node yet");
  const names = (await context.store.load()).tenants.map((each) => each.tenant.tenant_id);
  return new NotFoundError(`there is no audit log of a tenant ${tenant}`, {
    hint: hintOfNames(tenant, names, "mvm tenant list"),
  });
}
