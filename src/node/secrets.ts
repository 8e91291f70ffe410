import { ConflictError } from "../domain/errors.ts";
import { type TenantId, formatInstance } from "../domain/ids.ts";
import { addressOf, statusOf, vmmOf } from "../domain/instance.ts";
import type { Secrets, StoredSecrets } from "../ports/secret-store.ts";
import { type NodeContext, timestamp } from "./context.ts";
import { allowChange } from "./management.ts";
import { loadTenant } from "./records.ts";

const nothingStored: StoredSecrets = {
  values: {},
  generated: {},
  values_changed_at: {},
  generated_changed_at: {},
  updated_at: new Date(0).toISOString(),
  epoch: 0,
};

/** Replaces the whole set of a tenant's own secrets; generated ones stay. They are in effect from each instance's next start. */
export async function setSecrets(
  context: NodeContext,
  id: TenantId,
  values: Secrets,
  overrideMs?: number,
): Promise<void> {
  await context.locks.withTenant(id, "setting secrets", async () => {
    await allow(context, id, "tenant secrets set", overrideMs);
    const stored = (await context.secrets.load(id)) ?? nothingStored;
    const now = timestamp(context);
    const names = Object.keys(values).toSorted();
    await context.audit.append(id, { type: "SecretsSet", object: id, names });
    await context.secrets.save(id, {
      ...stored,
      values,
      // One that was given again as it was is as old as before.
      values_changed_at: mapNames(values, (name) =>
        values[name] === stored.values[name] ? (stored.values_changed_at[name] ?? now) : now,
      ),
      updated_at: now,
      epoch: stored.epoch + 1,
    });
  });
}

/** Makes all generated secrets of a tenant anew. @throws ConflictError when it has none. */
export async function rotateSecrets(
  context: NodeContext,
  id: TenantId,
  overrideMs?: number,
): Promise<SecretsView> {
  return context.locks.withTenant(id, "rotating secrets", async () => {
    await allow(context, id, "tenant secrets rotate", overrideMs);
    const stored = (await context.secrets.load(id)) ?? nothingStored;
    const names = Object.keys(stored.generated);
    if (names.length === 0) {
      throw new ConflictError(`tenant ${id} has no secrets that mvm generated`, {
        hint: `set new values: mvm tenant secrets set ${id} --from-file secrets.json`,
      });
    }
    await context.audit.append(id, { type: "SecretsGenerated", object: id, names });
    await context.secrets.save(id, {
      ...stored,
      ...generated(context, names),
      updated_at: timestamp(context),
      epoch: stored.epoch + 1,
    });
    return listSecrets(context, id);
  });
}

/** Makes the generated secrets that are not there yet; one that exists is never changed. The caller holds the tenant's lock. */
export async function ensureGeneratedSecrets(
  context: NodeContext,
  id: TenantId,
  names: readonly string[],
): Promise<void> {
  const missing = await missingGenerated(context, id, names);
  if (missing.length === 0) return;
  const stored = (await context.secrets.load(id)) ?? nothingStored;
  await context.audit.append(id, { type: "SecretsGenerated", object: id, names: missing });
  const made = generated(context, missing);
  await context.secrets.save(id, {
    ...stored,
    generated: { ...stored.generated, ...made.generated },
    generated_changed_at: { ...stored.generated_changed_at, ...made.generated_changed_at },
    updated_at: timestamp(context),
    epoch: stored.epoch + 1,
  });
}

/** Those of the names that have no generated value yet. */
export async function missingGenerated(
  context: NodeContext,
  id: TenantId,
  names: readonly string[],
): Promise<string[]> {
  const stored = (await context.secrets.load(id)) ?? nothingStored;
  return names.filter((name) => stored.generated[name] === undefined);
}

export interface SecretListing {
  readonly name: string;
  readonly origin: "set" | "generated";
  /** When its value last changed. */
  readonly changed_at: string;
}

/** What `secrets list` shows: names and ages, never values. */
export interface SecretsView {
  /** Raised with every change; 0 when nothing was ever set. */
  readonly epoch: number;
  readonly secrets: readonly SecretListing[];
  /** The instances that run or are paused, and the epoch that each has on its secrets drive. */
  readonly instances: readonly {
    readonly address: string;
    readonly status: string;
    readonly epoch: number;
    readonly current: boolean;
  }[];
}

/** Names and ages of a tenant's secrets, and which instance holds which epoch of them. */
export async function listSecrets(context: NodeContext, id: TenantId): Promise<SecretsView> {
  const { instances } = await loadTenant(context, id);
  const stored = (await context.secrets.load(id)) ?? nothingStored;
  const list = (
    names: Secrets,
    changed: Readonly<Record<string, string>>,
    origin: SecretListing["origin"],
  ): SecretListing[] =>
    Object.keys(names).map((name) => ({
      name,
      origin,
      changed_at: changed[name] ?? stored.updated_at,
    }));
  return {
    epoch: stored.epoch,
    secrets: [
      ...list(stored.values, stored.values_changed_at, "set"),
      ...list(stored.generated, stored.generated_changed_at, "generated"),
    ].toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    instances: instances
      .filter((instance) => vmmOf(instance) !== undefined)
      .map((instance) => ({
        address: formatInstance(addressOf(instance)),
        status: statusOf(instance),
        epoch: instance.secrets_epoch,
        current: instance.secrets_epoch === stored.epoch,
      })),
  };
}

/** What a guest is given: a value that the tenant's owner set comes before a generated one of the same name. */
export function effectiveSecrets(stored: StoredSecrets | undefined): Secrets {
  return { ...stored?.generated, ...stored?.values };
}

/** What a document manages is changed by hand only with an override. */
async function allow(
  context: NodeContext,
  id: TenantId,
  command: string,
  overrideMs: number | undefined,
): Promise<void> {
  const { tenant } = await loadTenant(context, id);
  const change = { tenant: id, object: id, command, overrideMs };
  const override_until = await allowChange(context, tenant, change);
  if (override_until !== tenant.override_until) {
    await context.store.saveTenant({ ...tenant, override_until });
  }
}

function generated(
  context: NodeContext,
  names: readonly string[],
): Pick<StoredSecrets, "generated" | "generated_changed_at"> {
  const now = timestamp(context);
  return {
    generated: Object.fromEntries(names.map((name) => [name, context.newToken()])),
    generated_changed_at: Object.fromEntries(names.map((name) => [name, now])),
  };
}

function mapNames(
  names: Readonly<Record<string, unknown>>,
  value: (name: string) => string,
): Record<string, string> {
  return Object.fromEntries(Object.keys(names).map((name) => [name, value(name)]));
}
