import type { DocumentFields } from "../domain/desired-pool.ts";
import { type EgressPolicy, openEgress } from "../domain/egress.ts";
import { ConflictError, UsageError } from "../domain/errors.ts";
import { type PoolAddress, type PoolId, formatPool } from "../domain/ids.ts";
import { addressOf } from "../domain/instance.ts";
import {
  type DesiredCounts,
  type GatewayRoute,
  type InstanceResources,
  type Pool,
  defaultRuntimePolicy,
  emptyCounts,
} from "../domain/pool.ts";
import { maxDesiredCount } from "../domain/pool-limits.ts";
import { type QuotaExcess, QuotaError } from "../domain/quota.ts";
import type { Role } from "../domain/roles.ts";
import { type SecretScope, assertSecretScopes } from "../domain/secret-scopes.ts";
import type { Plan } from "../planner/action.ts";
import { excessOfWanted } from "../planner/wanted.ts";
import type { TenantRecords } from "../ports/store.ts";
import { destroyInstance } from "./actions/destroy.ts";
import type { NodeContext } from "./context.ts";
import { changesBetween } from "./changes.ts";
import { allowChange } from "./management.ts";
import { type ReconcileResult, planRecords, reconcileTenant } from "./reconcile.ts";
import { findPool, loadTenant, refuseCorrupt } from "./records.ts";
import { endPool, newPool, recordPool } from "./pool-records.ts";
import { refuseExcess } from "./refuse.ts";
import { type DestroyOptions, collectImages } from "./tenants.ts";

export interface PoolRequest {
  readonly address: PoolAddress;
  readonly role: Role;
  readonly flakeRef: string;
  readonly profile: string;
  readonly resources: InstanceResources;
  readonly desiredCounts?: DesiredCounts;
  readonly startTimeoutSeconds?: number;
  readonly gatewayRoutes?: readonly GatewayRoute[];
  /** Default: open. */
  readonly egress?: EgressPolicy | undefined;
  /** Default: none. */
  readonly secretScopes?: readonly SecretScope[] | undefined;
}

/** What a pool that an operator makes has beside what is asked. */
function localFields(request: PoolRequest): Omit<DocumentFields, "role"> {
  return {
    flake_ref: request.flakeRef,
    profile: request.profile,
    instance_resources: request.resources,
    desired_counts: request.desiredCounts ?? emptyCounts,
    runtime_policy: defaultRuntimePolicy,
    start_timeout_seconds: request.startTimeoutSeconds ?? defaultStartTimeoutSeconds,
    gateway_routes: request.gatewayRoutes ?? [],
    egress: request.egress ?? openEgress,
    pinned: false,
    critical: false,
    secret_scopes: request.secretScopes ?? [],
    update_strategy: null,
  };
}

const defaultStartTimeoutSeconds = 300;

/** Makes a pool without instances. @throws ConflictError when it exists; QuotaError beyond max_pools. */
export async function createPool(context: NodeContext, request: PoolRequest): Promise<Pool> {
  return context.locks.withTenant(request.address.tenant, "creating a pool", () =>
    makePool(context, request),
  );
}

/** As `createPool`, for a caller that holds the tenant's lock. */
export async function makePool(context: NodeContext, request: PoolRequest): Promise<Pool> {
  const { address, role } = request;
  assertSecretScopes(request.secretScopes ?? []);
  const fields = { role, ...localFields(request) };
  const { tenant, pools } = await loadTenant(context, address.tenant);
  const about = { object: formatPool(address), command: "pool create" };
  const pool = newPool(context, address, "local", fields);
  return recordPool(context, pool, about.command, async () => {
    await refuseExcess(context, address.tenant, about, excessOfWanted(tenant.quotas, pools, pool));
  });
}

/** Sets how many instances a pool should have and brings them about. It waits for this pool and the gateways before it, not for others of the tenant. */
export async function scalePool(
  context: NodeContext,
  address: PoolAddress,
  counts: Partial<DesiredCounts>,
  overrideMs?: number,
): Promise<ReconcileResult> {
  const about = { object: formatPool(address), command: "pool scale" };
  return context.locks.withTenant(address.tenant, `scaling ${formatPool(address)}`, async () => {
    const records = await loadTenant(context, address.tenant);
    const before = findPool(records, address);
    const change = { ...about, tenant: address.tenant, overrideMs };
    const { pool, excess } = scaled(records, address, counts);
    const override_until = await allowChange(context, before, change);
    await refuseExcess(context, address.tenant, about, excess);
    const changes = changesBetween(before.desired_counts, pool.desired_counts);
    if (changes.length > 0 || override_until !== before.override_until) {
      const { object } = about;
      await context.audit.append(address.tenant, { type: "PoolScaled", object, changes });
      await context.store.savePool({ ...pool, override_until });
    }
    return reconcileTenant(context, address.tenant, { awaited: awaitedBy(records, pool) });
  });
}

/** The pool itself, and the gateways that must serve before it. */
function awaitedBy({ pools }: TenantRecords, pool: Pool): Set<PoolId> {
  const gateways = pools.filter(({ role }) => role === "gateway");
  const before = pool.role === "gateway" ? [] : gateways;
  return new Set([pool.pool_id, ...before.map(({ pool_id }) => pool_id)]);
}

/** What `scalePool` would do first, with nothing changed. */
export async function planScale(
  context: NodeContext,
  address: PoolAddress,
  counts: Partial<DesiredCounts>,
): Promise<Plan> {
  const records = await loadTenant(context, address.tenant);
  const { pool, excess } = scaled(records, address, counts);
  if (excess !== undefined) throw new QuotaError(address.tenant, excess);
  const pools = records.pools.map((other) => (other.pool_id === pool.pool_id ? pool : other));
  return planRecords(context, { ...records, pools });
}

/** Destroys a pool and its instances. @throws ConflictError when it has instances and `force` is not set. */
export async function destroyPool(
  context: NodeContext,
  address: PoolAddress,
  options: DestroyOptions,
): Promise<void> {
  await context.locks.withTenant(address.tenant, `destroying ${formatPool(address)}`, async () => {
    await refuseCorrupt(context, address.tenant);
    const records = await loadTenant(context, address.tenant);
    const pool = findPool(records, address);
    const { overrideMs } = options;
    const object = formatPool(address);
    const change = { tenant: address.tenant, object, command: "pool destroy", overrideMs };
    const override_until = await allowChange(context, pool, change);
    const members = records.instances.filter(({ pool_id }) => pool_id === address.pool);
    if (members.length > 0 && !options.force) {
      throw new ConflictError(`pool ${formatPool(address)} has ${members.length} instances`, {
        hint: `destroy them too with: mvm pool destroy ${formatPool(address)} --force`,
      });
    }
    // It wants no instances from now on, so a destroy that dies half-way is not undone.
    await context.store.savePool({ ...pool, desired_counts: emptyCounts, override_until });
    for (const member of members) {
      context.signal.throwIfAborted();
      await destroyInstance(context, addressOf(member), options.wipe);
    }
    await endPool(context, address, options.wipe);
  });
  await collectImages(context);
}

/** The pool as it would be with other counts, and the quota they could never be held within. @throws UsageError when a count is out of range. */
function scaled(
  records: TenantRecords,
  address: PoolAddress,
  counts: Partial<DesiredCounts>,
): { readonly pool: Pool; readonly excess: QuotaExcess | undefined } {
  const current = findPool(records, address);
  const desired = { ...current.desired_counts, ...counts };
  for (const [name, value] of Object.entries(desired)) {
    if (!Number.isInteger(value) || value < 0 || value > maxDesiredCount) {
      throw new UsageError(`${name} must be between 0 and ${maxDesiredCount}, not ${value}`);
    }
  }
  const pool: Pool = { ...current, desired_counts: desired };
  const others = records.pools.filter(({ pool_id }) => pool_id !== pool.pool_id);
  return { pool, excess: excessOfWanted(records.tenant.quotas, others, pool) };
}
