import { type EgressPolicy, openEgress } from "../domain/egress.ts";
import { ConflictError, UsageError } from "../domain/errors.ts";
import { type PoolAddress, formatPool } from "../domain/ids.ts";
import { addressOf } from "../domain/instance.ts";
import {
  type DesiredCounts,
  type GatewayRoute,
  type InstanceResources,
  type Pool,
  defaultRuntimePolicy,
  maxDesiredCount,
} from "../domain/pool.ts";
import { QuotaError, findExcess } from "../domain/quota.ts";
import type { Revision } from "../domain/revision.ts";
import type { Role } from "../domain/roles.ts";
import type { Plan } from "../planner/action.ts";
import { plan } from "../planner/plan.ts";
import type { TenantRecords } from "../ports/store.ts";
import { buildImage } from "./actions/build.ts";
import { destroyInstance } from "./actions/destroy.ts";
import { type NodeContext, timestamp } from "./context.ts";
import { observeTenant } from "./observe.ts";
import { type ReconcileResult, reconcileTenant } from "./reconcile.ts";
import { findPool, loadTenant, refuseCorrupt } from "./records.ts";
import { collectImages } from "./tenants.ts";

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
}

const defaultStartTimeoutSeconds = 300;
const noInstances: DesiredCounts = { running: 0, warm: 0, sleeping: 0 };

/** Makes a pool without instances. @throws ConflictError when it exists; QuotaError beyond max_pools. */
export async function createPool(context: NodeContext, request: PoolRequest): Promise<Pool> {
  return context.locks.withTenant(request.address.tenant, "creating a pool", () =>
    makePool(context, request),
  );
}

/** As `createPool`, for a caller that holds the tenant's lock. */
export async function makePool(context: NodeContext, request: PoolRequest): Promise<Pool> {
  const { address } = request;
  await refuseCorrupt(context, address.tenant);
  const records = await loadTenant(context, address.tenant);
  if (records.pools.some(({ pool_id }) => pool_id === address.pool)) {
    throw new ConflictError(`pool ${formatPool(address)} exists already`, {
      hint: `see: mvm pool info ${formatPool(address)}`,
    });
  }
  const excess = findExcess(
    records.tenant.quotas,
    { max_pools: records.pools.length },
    { max_pools: 1 },
  );
  if (excess !== undefined) throw new QuotaError(address.tenant, excess);
  const pool: Pool = {
    schema_version: 2,
    tenant_id: address.tenant,
    pool_id: address.pool,
    managed_by: "local",
    role: request.role,
    flake_ref: request.flakeRef,
    profile: request.profile,
    instance_resources: request.resources,
    desired_counts: request.desiredCounts ?? noInstances,
    runtime_policy: defaultRuntimePolicy,
    start_timeout_seconds: request.startTimeoutSeconds ?? defaultStartTimeoutSeconds,
    gateway_routes: request.gatewayRoutes ?? [],
    egress: request.egress ?? openEgress,
    created_at: timestamp(context),
    revisions: [],
    pinned: false,
    critical: false,
    override_until: null,
  };
  await context.store.savePool(pool);
  context.onProgress(`${formatPool(address)}: created`);
  return pool;
}

/** Sets how many instances a pool should have and brings them about. */
export async function scalePool(
  context: NodeContext,
  address: PoolAddress,
  counts: Partial<DesiredCounts>,
): Promise<ReconcileResult> {
  return context.locks.withTenant(address.tenant, `scaling ${formatPool(address)}`, async () => {
    const records = await loadTenant(context, address.tenant);
    await context.store.savePool(scaled(records, address, counts));
    return reconcileTenant(context, address.tenant);
  });
}

/** What `scalePool` would do first, with nothing changed. */
export async function planScale(
  context: NodeContext,
  address: PoolAddress,
  counts: Partial<DesiredCounts>,
): Promise<Plan> {
  const records = await loadTenant(context, address.tenant);
  const pool = scaled(records, address, counts);
  const pools = records.pools.map((other) => (other.pool_id === pool.pool_id ? pool : other));
  return plan({
    tenants: [await observeTenant(context, { ...records, pools })],
    capabilities: context.vmm.capabilities,
    startingVcpus: context.settings.startingVcpus,
    nowMs: context.clock.nowMs(),
  });
}

/** Builds a pool's image anew. Instances that run keep the image they booted from until they are started again. */
export async function buildPool(context: NodeContext, address: PoolAddress): Promise<Revision> {
  const revision = await context.locks.withTenant(
    address.tenant,
    `building ${formatPool(address)}`,
    () => buildImage(context, address),
  );
  await collectImages(context);
  return revision;
}

/** Destroys a pool and its instances. @throws ConflictError when it has instances and `force` is not set. */
export async function destroyPool(
  context: NodeContext,
  address: PoolAddress,
  options: { readonly force: boolean; readonly wipe: boolean },
): Promise<void> {
  await context.locks.withTenant(address.tenant, `destroying ${formatPool(address)}`, async () => {
    await refuseCorrupt(context, address.tenant);
    const records = await loadTenant(context, address.tenant);
    const pool = findPool(records, address);
    const members = records.instances.filter(({ pool_id }) => pool_id === address.pool);
    if (members.length > 0 && !options.force) {
      throw new ConflictError(`pool ${formatPool(address)} has ${members.length} instances`, {
        hint: `destroy them too with: mvm pool destroy ${formatPool(address)} --force`,
      });
    }
    // It wants no instances from now on, so a destroy that dies half-way is not undone.
    await context.store.savePool({ ...pool, desired_counts: noInstances });
    for (const member of members) {
      context.signal.throwIfAborted();
      await destroyInstance(context, addressOf(member), options.wipe);
    }
    await context.store.remove(address);
    context.onProgress(`${formatPool(address)}: destroyed`);
  });
  await collectImages(context);
}

/** The pool as it would be with other counts. @throws UsageError when a count is out of range; QuotaError when no quota could ever hold them. */
function scaled(
  records: TenantRecords,
  address: PoolAddress,
  counts: Partial<DesiredCounts>,
): Pool {
  const pool = findPool(records, address);
  const desired = { ...pool.desired_counts, ...counts };
  for (const [name, value] of Object.entries(desired)) {
    if (!Number.isInteger(value) || value < 0 || value > maxDesiredCount) {
      throw new UsageError(`${name} must be between 0 and ${maxDesiredCount}, not ${value}`);
    }
  }
  const others = records.pools.filter(({ pool_id }) => pool_id !== pool.pool_id);
  const sum = (key: keyof DesiredCounts): number =>
    others.reduce((total, other) => total + other.desired_counts[key], 0);
  const { vcpus, mem_mib } = pool.instance_resources;
  const active = desired.running + desired.warm;
  const excess = findExcess(
    records.tenant.quotas,
    {
      max_running: sum("running"),
      max_warm: sum("warm"),
      max_vcpus: activeOf(others, ({ vcpus }) => vcpus),
      max_mem_mib: activeOf(others, ({ mem_mib }) => mem_mib),
    },
    {
      max_running: desired.running,
      max_warm: desired.warm,
      max_vcpus: active * vcpus,
      max_mem_mib: active * mem_mib,
      max_instances_per_pool: active + desired.sleeping,
    },
  );
  if (excess !== undefined) throw new QuotaError(address.tenant, excess);
  return { ...pool, desired_counts: desired };
}

/** What pools ask for at their desired counts. */
function activeOf(
  pools: readonly Pool[],
  amount: (resources: InstanceResources) => number,
): number {
  return pools.reduce((total, { desired_counts, instance_resources }) => {
    return total + (desired_counts.running + desired_counts.warm) * amount(instance_resources);
  }, 0);
}
