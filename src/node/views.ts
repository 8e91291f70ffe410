import type { EgressPolicy } from "../domain/egress.ts";
import { instanceNetwork, tenantNetwork } from "../domain/address-plan.ts";
import { formatInstance, formatPool } from "../domain/ids.ts";
import { type Instance, addressOf, imageOf, statusOf, vmmOf } from "../domain/instance.ts";
import type { InstanceStatus } from "../domain/lifecycle.ts";
import type { DesiredCounts, InstanceResources, Pool, RuntimePolicy } from "../domain/pool.ts";
import type { SecretScope } from "../domain/secret-scopes.ts";
import type { Quotas } from "../domain/quota.ts";
import type { Revision } from "../domain/revision.ts";
import type { Tenant } from "../domain/tenant.ts";
import { usedBy } from "../planner/usage.ts";
import type { TenantRecords } from "../ports/store.ts";

/** A tenant as `--json` shows it. */
export interface TenantView {
  readonly tenant_id: string;
  readonly managed_by: string;
  readonly net_id: number;
  readonly subnet: string;
  readonly gateway: string;
  readonly bridge: string;
  readonly quotas: Quotas;
  /** What counts against the quotas now. */
  readonly used: Readonly<Partial<Record<keyof Quotas, number>>>;
  readonly pools: readonly string[];
  readonly instances: number;
  readonly template: string | null;
  readonly created_at: string;
  readonly destroying: boolean;
  readonly pinned: boolean;
  /** Until then an operator may change what its document manages. */
  readonly override_until: string | null;
}

export interface PoolView {
  readonly address: string;
  readonly managed_by: string;
  readonly role: string;
  readonly flake_ref: string;
  readonly profile: string;
  readonly instance_resources: InstanceResources;
  readonly desired_counts: DesiredCounts;
  readonly runtime_policy: RuntimePolicy;
  readonly pinned: boolean;
  readonly critical: boolean;
  readonly override_until: string | null;
  readonly egress: EgressPolicy;
  readonly secret_scopes: readonly SecretScope[];
  readonly revisions: readonly string[];
  readonly instances: number;
  readonly created_at: string;
}

/** One image of a pool. */
export interface RevisionView {
  readonly hash: string;
  /** New starts boot from it. */
  readonly current: boolean;
  /** False when it is no longer in the store, or its record cannot be read; the rest is then unknown. */
  readonly present: boolean;
  readonly locked_url: string | null;
  readonly nar_hash: string | null;
  readonly package: string | null;
  readonly built_at: string | null;
  readonly built_by: string | null;
  readonly size_bytes: number | null;
  /** How many instances of the pool run or wait on it. */
  readonly instances: number;
}

/** A pool with its images, current first, as `pool info` shows it. */
export interface PoolInfo extends PoolView {
  readonly images: readonly RevisionView[];
}

export interface InstanceView {
  readonly address: string;
  readonly role: string;
  readonly status: InstanceStatus;
  /** The operation under way or interrupted, such as `start: vmm`. */
  readonly operation: string | null;
  readonly ip: string;
  readonly mac: string;
  readonly pid: number | null;
  readonly revision: string | null;
  readonly since: string | null;
  /** Why it failed. */
  readonly cause: string | null;
  /** Until then the reconciler leaves it alone, since an operator moved it by hand. */
  readonly manual_override_until: string | null;
  readonly console: readonly string[];
  readonly created_at: string;
}

export function viewTenant(records: TenantRecords): TenantView {
  const { tenant, pools, instances } = records;
  const network = tenantNetwork(tenant.net_id);
  return {
    tenant_id: tenant.tenant_id,
    managed_by: tenant.managed_by,
    net_id: tenant.net_id,
    subnet: network.subnet,
    gateway: network.gatewayIp,
    bridge: network.bridge,
    quotas: tenant.quotas,
    used: usedBy(records),
    pools: pools.map(({ pool_id }) => pool_id),
    instances: instances.length,
    template: tenant.template,
    created_at: tenant.created_at,
    destroying: tenant.destroying,
    pinned: tenant.pinned,
    override_until: tenant.override_until,
  };
}

export function viewPool(pool: Pool, instances: readonly Instance[]): PoolView {
  return {
    address: formatPool({ tenant: pool.tenant_id, pool: pool.pool_id }),
    managed_by: pool.managed_by,
    role: pool.role,
    flake_ref: pool.flake_ref,
    profile: pool.profile,
    instance_resources: pool.instance_resources,
    desired_counts: pool.desired_counts,
    runtime_policy: pool.runtime_policy,
    pinned: pool.pinned,
    critical: pool.critical,
    override_until: pool.override_until,
    egress: pool.egress,
    secret_scopes: pool.secret_scopes,
    revisions: pool.revisions,
    instances: instances.filter(({ pool_id }) => pool_id === pool.pool_id).length,
    created_at: pool.created_at,
  };
}

/** Images of a pool by its record; `described` holds what the store knows of each. */
export function viewRevisions(
  pool: Pool,
  instances: readonly Instance[],
  described: ReadonlyMap<string, Revision>,
): RevisionView[] {
  const used = instances.filter(({ pool_id }) => pool_id === pool.pool_id).map(imageOf);
  return pool.revisions.map((hash, index) => {
    const revision = described.get(hash);
    const size =
      revision === undefined
        ? null
        : revision.kernel.sizeBytes + revision.initrd.sizeBytes + revision.rootfs.sizeBytes;
    return {
      hash,
      current: index === 0,
      present: revision !== undefined,
      locked_url: revision?.locked_url ?? null,
      nar_hash: revision?.nar_hash ?? null,
      package: revision?.package ?? null,
      built_at: revision?.built_at ?? null,
      built_by: revision?.built_by ?? null,
      size_bytes: size,
      instances: used.filter((image) => image === hash).length,
    };
  });
}

export function viewInstance(tenant: Tenant, role: string, instance: Instance): InstanceView {
  const { state, operation } = instance;
  const network = instanceNetwork(tenant.net_id, instance.net_offset);
  const vmm = vmmOf(instance);
  return {
    address: formatInstance(addressOf(instance)),
    role,
    status: statusOf(instance),
    operation: operation === null ? null : `${operation.kind}: ${operation.step}`,
    ip: network.ip,
    mac: network.mac,
    pid: vmm?.pid ?? null,
    revision: vmm?.revision ?? null,
    since: "since" in state ? state.since : null,
    cause: state.status === "failed" ? state.cause : null,
    manual_override_until: instance.manual_override_until,
    console: state.status === "failed" ? state.console : [],
    created_at: instance.created_at,
  };
}

/** Views of all instances of a tenant, in the order of pools by role and of addresses. */
export function viewInstances(records: TenantRecords): InstanceView[] {
  const roles = new Map(records.pools.map(({ pool_id, role }) => [pool_id, role]));
  return records.instances.map((instance) =>
    viewInstance(records.tenant, roles.get(instance.pool_id) ?? "worker", instance),
  );
}
