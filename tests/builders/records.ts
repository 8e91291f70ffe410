import { addressOf } from "../../src/domain/instance.ts";
import { openEgress } from "../../src/domain/egress.ts";
import type { Instance, InstanceState, Operation, VmmRecord } from "../../src/domain/instance.ts";
import { parseInstanceId, parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import type { InstanceStatus } from "../../src/domain/lifecycle.ts";
import type { Pool } from "../../src/domain/pool.ts";
import { defaultRuntimePolicy } from "../../src/domain/pool.ts";
import { defaultQuotas } from "../../src/domain/quota.ts";
import type { Quotas } from "../../src/domain/quota.ts";
import type { Revision } from "../../src/domain/revision.ts";
import type { Tenant } from "../../src/domain/tenant.ts";
import type { ObservedInstance, ObservedTenant } from "../../src/planner/observed.ts";
import type { PlanInput } from "../../src/planner/plan.ts";

/** The time all records of these builders know. */
export const nowMs: number = Date.parse("2026-01-01T12:00:00.000Z");
export const imageHash: string = "ab".repeat(32);

/** A time so many seconds before `nowMs`. */
export function secondsAgo(seconds: number): string {
  return new Date(nowMs - seconds * 1000).toISOString();
}

export function aTenant(overrides: Partial<Tenant> & { quota?: Partial<Quotas> } = {}): Tenant {
  const { quota, ...rest } = overrides;
  return {
    schema_version: 2,
    tenant_id: parseTenantId("acme"),
    managed_by: "local",
    net_id: 1,
    quotas: { ...defaultQuotas, ...quota },
    created_at: secondsAgo(86_400),
    template: null,
    destroying: false,
    pinned: false,
    override_until: null,
    ...rest,
  };
}

type PoolOverrides = Partial<Omit<Pool, "desired_counts" | "pool_id">> & {
  running?: number;
  warm?: number;
  sleeping?: number;
};

/** A pool of the tenant `acme` that has an image. */
export function aPool(id: string, overrides: PoolOverrides = {}): Pool {
  const { running = 0, warm = 0, sleeping = 0, ...rest } = overrides;
  return {
    schema_version: 3,
    tenant_id: parseTenantId("acme"),
    pool_id: parsePoolId(id),
    managed_by: "local",
    role: "worker",
    flake_ref: "builtin:hello",
    profile: "minimal",
    instance_resources: { vcpus: 1, mem_mib: 256, data_disk_mib: 0 },
    desired_counts: { running, warm, sleeping },
    runtime_policy: defaultRuntimePolicy,
    start_timeout_seconds: 300,
    gateway_routes: [],
    egress: openEgress,
    created_at: secondsAgo(86_400),
    revisions: [imageHash],
    pinned: false,
    critical: false,
    override_until: null,
    secret_scopes: [],
    update_strategy: null,
    built_from: null,
    good_revision: null,
    rejected_revision: null,
    ...rest,
  };
}

export function aVmm(pid = 100): VmmRecord {
  return { pid, start_ticks: pid * 10, started_at: secondsAgo(3600), revision: imageHash };
}

/** The state that goes with a status; `since` is an hour ago unless given. */
function stateOf(status: InstanceStatus, since: string = secondsAgo(3600)): InstanceState {
  switch (status) {
    case "running":
    case "warm":
      return { status, since, vmm: aVmm() };
    case "failed":
      return { status, since, cause: "its VMM is gone", console: ["Kernel panic"] };
    case "created":
    case "ready":
    case "stopped":
    case "sleeping":
    case "destroyed":
      return { status };
  }
}

export interface InstanceOverrides {
  readonly since?: string;
  readonly createdAt?: string;
  readonly operation?: Operation;
  readonly failures?: number;
  readonly spare?: boolean;
  readonly overrideUntil?: string;
  readonly bootedRevision?: string;
}

/** Instance number `offset` (2 to 254) of a pool of `acme`; a lower number is older. */
export function anInstance(
  pool: string,
  offset: number,
  status: InstanceStatus,
  overrides: InstanceOverrides = {},
): Instance {
  return {
    schema_version: 3,
    tenant_id: parseTenantId("acme"),
    pool_id: parsePoolId(pool),
    instance_id: parseInstanceId(`i-${offset.toString(16).padStart(8, "0")}`),
    net_offset: offset,
    created_at: overrides.createdAt ?? secondsAgo(36_000 - offset),
    resources: null,
    changes: 1,
    state: stateOf(status, overrides.since),
    operation: overrides.operation ?? null,
    booted_revision: overrides.bootedRevision ?? null,
    secrets_epoch: 0,
    failures: overrides.failures ?? (status === "failed" ? 1 : 0),
    spare: overrides.spare ?? false,
    manual_override_until: overrides.overrideUntil ?? null,
  };
}

/** An instance as it is seen when all is as recorded and its guest is well. */
export function seen(record: Instance, other: Partial<ObservedInstance> = {}): ObservedInstance {
  const { status } = record.state;
  return {
    record,
    vmm: status === "running" || status === "warm" ? "recorded" : "none",
    health: status === "running" ? "healthy" : "unknown",
    healthDetail: "",
    ...other,
  };
}

/** What the planner is given for one tenant whose network stands. */
export function observed(
  pools: readonly Pool[],
  instances: readonly ObservedInstance[],
  other: Partial<ObservedTenant> & { quota?: Partial<Quotas> } = {},
): PlanInput {
  const { quota, ...rest } = other;
  const tenant = aTenant(quota === undefined ? {} : { quota });
  return {
    tenants: [{ tenant, pools, instances, networkReady: true, ...rest }],
    capabilities: { memorySnapshot: false },
    startingVcpus: 100_000,
    nowMs,
  };
}

/** `acme/<pool>/i-…` */
export function nameOf(instance: Instance): string {
  const { tenant, pool, instance: id } = addressOf(instance);
  return `${tenant}/${pool}/${id}`;
}

/** An image revision as a builder would have recorded it. */
export function aRevision(hash: string, overrides: Partial<Revision> = {}): Revision {
  const file = { sha256: hash, sizeBytes: 1 };
  return {
    schema_version: 2,
    hash,
    kernel: file,
    initrd: file,
    rootfs: file,
    flake_ref: "builtin:hello",
    locked_url: "path:/x",
    nar_hash: "sha256-x",
    inputs: [],
    package: "default",
    profile: "minimal",
    role: "worker",
    built_at: secondsAgo(1),
    built_by: "test",
    ...overrides,
  };
}
