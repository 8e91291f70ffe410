import { ConflictError, NotFoundError } from "../domain/errors.ts";
import {
  type InstanceAddress,
  type InstanceId,
  type PoolAddress,
  type TenantId,
  formatInstance,
  formatPool,
} from "../domain/ids.ts";
import { type Instance, type Operation, addressOf } from "../domain/instance.ts";
import { hintOfNames } from "../domain/nearest.ts";
import type { Pool } from "../domain/pool.ts";
import type { CorruptFile, TenantRecords } from "../ports/store.ts";
import { type NodeContext, timestamp } from "./context.ts";

type WithStore = Pick<NodeContext, "store">;

/** Whether a state file lies in a tenant's folder. */
export function isOfTenant({ path }: CorruptFile, tenant: TenantId): boolean {
  return path.includes(`/tenants/${tenant}/`);
}

/** Refuses to make or remove anything where a record cannot be read: it may stand for something that runs. @throws ConflictError */
export async function refuseCorrupt(context: WithStore, tenant: TenantId): Promise<void> {
  const { corrupt } = await context.store.load();
  const broken = corrupt.find((file) => isOfTenant(file, tenant));
  if (broken === undefined) return;
  throw new ConflictError(`${broken.path} cannot be used: ${broken.problem}`, {
    hint: "restore it from a backup, or move it away if what it stood for is gone",
  });
}

/** @throws NotFoundError */
export async function loadTenant(context: WithStore, id: TenantId): Promise<TenantRecords> {
  const { tenants, corrupt } = await context.store.load();
  const records = tenants.find(({ tenant }) => tenant.tenant_id === id);
  if (records !== undefined) return records;
  const broken = corrupt.find(({ path }) => path.includes(`/${id}/tenant.json`));
  if (broken !== undefined) {
    throw new NotFoundError(`the record of tenant ${id} cannot be used: ${broken.problem}`, {
      hint: `restore ${broken.path} from a backup`,
    });
  }
  const names = tenants.map(({ tenant }) => tenant.tenant_id);
  throw new NotFoundError(`there is no tenant ${id}`, {
    hint: hintOfNames(id, names, "mvm tenant list"),
  });
}

/** @throws NotFoundError */
export function findPool(records: TenantRecords, address: PoolAddress): Pool {
  const pool = records.pools.find(({ pool_id }) => pool_id === address.pool);
  if (pool !== undefined) return pool;
  const given = formatPool(address);
  const names = records.pools.map(({ pool_id }) => formatPool({ ...address, pool: pool_id }));
  throw new NotFoundError(`there is no pool ${given}`, {
    hint: hintOfNames(given, names, `mvm pool list --tenant ${address.tenant}`),
  });
}

/** @throws NotFoundError */
function findInstance(records: TenantRecords, address: InstanceAddress): Instance {
  const instance = records.instances.find(
    ({ pool_id, instance_id }) => pool_id === address.pool && instance_id === address.instance,
  );
  if (instance !== undefined) return instance;
  throw noInstance(records, address);
}

/** That a tenant has no such instance. */
export function noInstance(records: TenantRecords, address: InstanceAddress): NotFoundError {
  const given = formatInstance(address);
  const names = records.instances.map((each) => formatInstance(addressOf(each)));
  return new NotFoundError(`there is no instance ${given}`, {
    hint: hintOfNames(given, names, `mvm instance list --tenant ${address.tenant}`),
  });
}

/** The current record of an instance and its pool. @throws NotFoundError */
export async function loadInstance(
  context: WithStore,
  address: InstanceAddress,
): Promise<{ records: TenantRecords; pool: Pool; instance: Instance }> {
  const records = await loadTenant(context, address.tenant);
  return {
    records,
    pool: findPool(records, address),
    instance: findInstance(records, address),
  };
}

/** Finds an instance by its id alone: ids are unique on the node. @throws NotFoundError */
export async function locateInstance(context: WithStore, id: InstanceId): Promise<InstanceAddress> {
  const { tenants } = await context.store.load();
  const instances = tenants.flatMap(({ instances }) => instances);
  const found = instances.find(({ instance_id }) => instance_id === id);
  if (found !== undefined) return addressOf(found);
  const names = instances.map(({ instance_id }) => instance_id);
  throw new NotFoundError(`there is no instance ${id}`, {
    hint: hintOfNames(id, names, "mvm instance list"),
  });
}

/** That an operator moves an instance by hand: with which command, and until when the reconciler leaves it alone. */
export interface ManualOverride {
  readonly command: string;
  readonly until: string;
}

/** An operation on an instance at its next step; it began when its first step did. */
export function atStep(
  context: NodeContext,
  { operation }: Instance,
  kind: Operation["kind"],
  step: string,
): Operation {
  const started_at = operation?.kind === kind ? operation.started_at : timestamp(context);
  return { kind, started_at, step };
}

/**
 * Writes down what is about to be done, before it is done. An operator's override is part of that
 * write: what dies after it is finished as it was begun, and is not undone by the reconciler.
 *
 * @returns the new record.
 */
export async function begin(
  context: NodeContext,
  instance: Instance,
  kind: Operation["kind"],
  step: string,
  override?: ManualOverride,
): Promise<Instance> {
  const next: Instance = { ...instance, operation: atStep(context, instance, kind, step) };
  if (override !== undefined) return await saveOverride(context, next, override);
  await context.store.saveInstance(next);
  return next;
}

/** Records that an operator moved an instance by hand: the line of the audit log, and then the record. @returns the new record. */
export async function saveOverride(
  context: NodeContext,
  instance: Instance,
  { command, until }: ManualOverride,
): Promise<Instance> {
  const object = formatInstance(addressOf(instance));
  await context.audit.append(instance.tenant_id, {
    type: "ManualOverride",
    object,
    command,
    until,
  });
  const next: Instance = { ...instance, manual_override_until: until };
  await context.store.saveInstance(next);
  return next;
}
