import * as z from "zod/mini";
import type { UpdateStrategy } from "./desired-pool.ts";
import { egressSchema } from "./egress-schema.ts";
import { type EgressPolicy, openEgress } from "./egress.ts";
import { ConflictError, NotFoundError } from "./errors.ts";
import { type PoolId, type TenantId, parsePoolId, parseTenantId } from "./ids.ts";
import type { RecordForm } from "./record-form.ts";
import { maxDesiredCount } from "./pool-limits.ts";
import { type Role, parseRole } from "./roles.ts";
import { secretScopesSchema } from "./secret-scopes-schema.ts";
import type { SecretScope } from "./secret-scopes.ts";
import type { ManagedBy } from "./tenant.ts";

export interface InstanceResources {
  readonly vcpus: number;
  readonly mem_mib: number;
  /** 0 means no data disk. */
  readonly data_disk_mib: number;
}

export interface DesiredCounts {
  readonly running: number;
  readonly warm: number;
  readonly sleeping: number;
}

/** All in seconds, by the host's clock. */
export interface RuntimePolicy {
  readonly min_running_seconds: number;
  readonly min_warm_seconds: number;
  readonly drain_timeout_seconds: number;
  readonly graceful_shutdown_seconds: number;
}

/** A route of a gateway pool: a port it listens on, and the pool and port behind it. */
export interface GatewayRoute {
  readonly name: string;
  readonly listen_port: number;
  readonly pool_id: PoolId;
  readonly target_port: number;
}

/** A homogeneous group of instances in a tenant. Its role is fixed when it is made. */
export interface Pool {
  readonly schema_version: 3;
  readonly tenant_id: TenantId;
  readonly pool_id: PoolId;
  readonly managed_by: ManagedBy;
  readonly role: Role;
  readonly flake_ref: string;
  readonly profile: string;
  readonly instance_resources: InstanceResources;
  readonly desired_counts: DesiredCounts;
  readonly runtime_policy: RuntimePolicy;
  /** How long a started instance may take until it is healthy, in seconds. */
  readonly start_timeout_seconds: number;
  readonly gateway_routes: readonly GatewayRoute[];
  /** Where its instances may go outside their tenant's network. */
  readonly egress: EgressPolicy;
  readonly created_at: string;
  /** Image revisions, newest first; the first is the one that new starts use. */
  readonly revisions: readonly string[];
  /** Instances that serve are never warmed or slept by the reconciler or a policy. */
  readonly pinned: boolean;
  /** Instances are made and repaired, and never stopped, warmed, slept or replaced by the reconciler or a policy. */
  readonly critical: boolean;
  /** Until then an operator may change what a document manages, and no document overwrites it. */
  readonly override_until: string | null;
  /** With scopes each integration gets its own secrets only; without, every instance gets all. */
  readonly secret_scopes: readonly SecretScope[];
  /** How instances are exchanged when image or resources change; null: each takes them at its next start. */
  readonly update_strategy: UpdateStrategy | null;
  /** What the last build was made of: a document that says something else has a new one made. Null when that is not known. */
  readonly built_from: { readonly flake_ref: string; readonly profile: string } | null;
  /** The image that all instances were well with; what comes back when a newer one is not. Null before the first. */
  readonly good_revision: string | null;
  /** The image that was taken back since its instances did not become healthy. */
  readonly rejected_revision: string | null;
}

export const keptRevisions = 5;

export const emptyCounts: DesiredCounts = { running: 0, warm: 0, sleeping: 0 };

export const defaultRuntimePolicy: RuntimePolicy = {
  min_running_seconds: 60,
  min_warm_seconds: 30,
  drain_timeout_seconds: 30,
  graceful_shutdown_seconds: 15,
};

// Made when they are first used: a schema takes longer to make than many a command takes for all else.
const count = z.int().check(z.gte(0), z.lte(maxDesiredCount));
const seconds = z.int().check(z.gte(0), z.lte(86_400));
const port = z.int().check(z.gte(1), z.lte(65_535));
const revision = z.string().check(z.regex(/^[0-9a-f]{64}$/));

export const updateStrategySchema: z.ZodMiniType<UpdateStrategy> = z.lazy(() =>
  z.strictObject({
    max_unavailable: z._default(z.int().check(z.gte(1), z.lte(maxDesiredCount)), 1),
    health_timeout_seconds: z.optional(z.int().check(z.gte(1), z.lte(86_400))),
    rollback: z._default(z.boolean(), true),
  }),
);

export const instanceResourcesSchema: z.ZodMiniType<InstanceResources> = z.lazy(() =>
  z.strictObject({
    vcpus: z.int().check(z.gte(1), z.lte(32)),
    mem_mib: z.int().check(z.gte(128), z.lte(1_048_576)),
    data_disk_mib: z.int().check(z.gte(0), z.lte(16 * 1_048_576)),
  }),
);

const desiredCountsSchema: z.ZodMiniType<DesiredCounts> = z.lazy(() =>
  z.strictObject({
    running: count,
    warm: count,
    sleeping: count,
  }),
);

const schema: z.ZodMiniType<Pool> = z.lazy(() =>
  z.strictObject({
    schema_version: z.literal(3),
    tenant_id: z.pipe(z.string(), z.transform(parseTenantId)),
    pool_id: z.pipe(z.string(), z.transform(parsePoolId)),
    managed_by: z.enum(["local", "document"]),
    role: z.pipe(z.string(), z.transform(parseRole)),
    flake_ref: z.string().check(z.minLength(1)),
    profile: z.string().check(z.minLength(1)),
    instance_resources: instanceResourcesSchema,
    desired_counts: desiredCountsSchema,
    runtime_policy: z.strictObject({
      min_running_seconds: seconds,
      min_warm_seconds: seconds,
      drain_timeout_seconds: seconds,
      graceful_shutdown_seconds: seconds,
    }),
    start_timeout_seconds: seconds,
    gateway_routes: z.array(
      z.strictObject({
        name: z.string().check(z.minLength(1)),
        listen_port: port,
        pool_id: z.pipe(z.string(), z.transform(parsePoolId)),
        target_port: port,
      }),
    ),
    egress: egressSchema,
    created_at: z.iso.datetime(),
    revisions: z.array(revision).check(z.maxLength(keptRevisions)),
    pinned: z.boolean(),
    critical: z.boolean(),
    override_until: z.nullable(z.iso.datetime()),
    secret_scopes: secretScopesSchema,
    update_strategy: z.nullable(updateStrategySchema),
    built_from: z.nullable(z.strictObject({ flake_ref: z.string(), profile: z.string() })),
    good_revision: z.nullable(revision),
    rejected_revision: z.nullable(revision),
  }),
);

export const poolForm: RecordForm<Pool> = {
  version: 3,
  schema,
  migrations: {
    1: (old) => ({
      ...old,
      pinned: false,
      critical: false,
      override_until: null,
      egress: openEgress,
      secret_scopes: [],
    }),
    2: (old) => ({
      ...old,
      update_strategy: null,
      built_from: null,
      good_revision: null,
      rejected_revision: null,
    }),
  },
};

/** The revisions of a pool once `hash` is the current one: newest first, no more than are kept. */
export function withCurrentRevision(revisions: readonly string[], hash: string): string[] {
  return [hash, ...revisions.filter((other) => other !== hash)].slice(0, keptRevisions);
}

/**
 * The revision of a pool that a hash or the beginning of one means.
 * @throws NotFoundError when the pool has none such; ConflictError when it has several.
 */
export function findRevision(revisions: readonly string[], prefix: string): string {
  const [found, ...others] = revisions.filter((hash) => hash.startsWith(prefix));
  const known = revisions.map((hash) => hash.slice(0, 12)).join(", ");
  if (found === undefined) {
    throw new NotFoundError(`the pool has no image ${prefix}`, {
      hint: known === "" ? "it has none yet" : `it has: ${known}`,
    });
  }
  if (others.length > 0) {
    throw new ConflictError(`${prefix} means more than one image of the pool`, {
      hint: `give more of it: ${known}`,
    });
  }
  return found;
}
