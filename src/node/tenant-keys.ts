import { ConflictError } from "../domain/errors.ts";
import type { TenantId } from "../domain/ids.ts";
import type { TenantKeyStatus } from "../ports/tenant-keys.ts";
import type { NodeContext } from "./context.ts";
import { loadTenant } from "./records.ts";

/** What is lost with a key, said wherever one would be replaced. */
const lostWithKey =
  "snapshots and encrypted data disks that were made with the old key can never be read again";

export async function tenantKeyStatus(
  context: NodeContext,
  id: TenantId,
): Promise<TenantKeyStatus> {
  await loadTenant(context, id);
  return context.keys.status(id);
}

/** Makes a key for a tenant that has none, or a new one when `force` is set. @throws ConflictError when it has one. */
export async function generateTenantKey(
  context: NodeContext,
  id: TenantId,
  force: boolean,
): Promise<TenantKeyStatus> {
  return context.locks.withTenant(id, "making a key", async () => {
    await loadTenant(context, id);
    const before = await context.keys.status(id);
    if (!force) refusePresent(id, before, "generate");
    await record(context, id, "generated", before);
    await context.keys.remove(id);
    await context.keys.ensure(id);
    return context.keys.status(id);
  });
}

/** Puts a key that is kept elsewhere in place. The same key again is no error. @throws ConflictError when another is there and `force` is not set. */
export async function importTenantKey(
  context: NodeContext,
  id: TenantId,
  key: Uint8Array,
  force: boolean,
): Promise<TenantKeyStatus> {
  return context.locks.withTenant(id, "importing a key", async () => {
    await loadTenant(context, id);
    const before = await context.keys.status(id);
    const isSame = before.fingerprint === context.keys.fingerprint(key);
    if (!isSame && !force) refusePresent(id, before, "import");
    if (!isSame) await record(context, id, "imported", before);
    await context.keys.replace(id, key);
    return context.keys.status(id);
  });
}

async function record(
  context: NodeContext,
  id: TenantId,
  how: "generated" | "imported",
  before: TenantKeyStatus,
): Promise<void> {
  const lost = before.fingerprint;
  await context.audit.append(id, { type: "TenantKeyReplaced", object: id, how, lost });
}

function refusePresent(id: TenantId, status: TenantKeyStatus, verb: string): void {
  if (!status.present) return;
  throw new ConflictError(`tenant ${id} has a key: ${lostWithKey}`, {
    hint: `if nothing of that is needed: mvm tenant key ${verb} ${id} --force`,
  });
}
