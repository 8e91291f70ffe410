import type { EgressPolicy } from "./egress.ts";
import type { PoolId } from "./ids.ts";
import type {
  DesiredCounts,
  GatewayRoute,
  InstanceResources,
  Pool,
  RuntimePolicy,
} from "./pool.ts";
import type { Role } from "./roles.ts";
import type { SecretScope } from "./secret-scopes.ts";

/** When instances that nobody uses are warmed and put to sleep, in seconds without work. */
export interface SleepPolicy {
  readonly enabled: boolean;
  readonly warm_after_seconds: number;
  readonly sleep_after_seconds: number;
  readonly min_running: number;
}

/** A port of the host that leads to a port of the gateway. */
export interface Ingress {
  /** Unique on the host. */
  readonly host_port: number;
  readonly gateway_port: number;
  /** The secret that holds certificate and key: with it TLS ends at the gateway. */
  readonly certificate_secret?: string | undefined;
}

export type InstanceSelector =
  | "any"
  | "least_connections"
  | { readonly by_ip: string }
  | { readonly sticky: "cookie" | "source" | "path_segment" };

/** One way from a gateway to a pool; a connection has to fit everything that `match` names. */
export interface DesiredRoute {
  readonly name: string;
  readonly match: {
    readonly port?: number | undefined;
    readonly host?: string | undefined;
    readonly path_prefix?: string | undefined;
    readonly source_cidr?: string | undefined;
  };
  readonly target: {
    readonly pool_id: PoolId;
    readonly instance_selector: InstanceSelector;
    readonly target_port: number;
  };
}

export interface DesiredIntegration {
  readonly name: string;
  /** Program and arguments; no shell. */
  readonly checkpoint_cmd?: readonly string[] | undefined;
  readonly restore_cmd?: readonly string[] | undefined;
  /** A checkpoint of it that fails blocks the sleep. */
  readonly critical: boolean;
  /** Held by exactly one instance of the pool. */
  readonly exclusive: boolean;
}

/** How it is found whether an instance is well; exactly one of `http`, `tcp` and `exec`. */
export interface HealthCheck {
  readonly http?:
    | { readonly port: number; readonly path: string; readonly expect: string }
    | undefined;
  readonly tcp?: { readonly port: number } | undefined;
  /** Program and arguments in the guest; it is well when it ends with 0. */
  readonly exec?: { readonly command: readonly string[] } | undefined;
  readonly interval_seconds: number;
  readonly timeout_seconds: number;
  /** How long a started instance may take until it is healthy. */
  readonly start_timeout_seconds: number;
}

/** How instances are exchanged when image or resources of their pool change. */
export interface UpdateStrategy {
  /** So many of those that should run may be missing at once. */
  readonly max_unavailable: number;
  /** How long a new one may take until it is healthy; without it as long as any start of the pool. */
  readonly health_timeout_seconds?: number | undefined;
  /** Whether the last good image comes back when new instances do not become healthy. */
  readonly rollback: boolean;
}

/** A pool as a desired-state document asks for it (docs/desired-state-schema.md); every default is filled in. */
export interface DesiredPool {
  readonly pool_id: PoolId;
  readonly flake_ref: string;
  readonly profile: string;
  readonly role: Role;
  readonly instance_resources: InstanceResources;
  readonly desired_counts: DesiredCounts;
  readonly runtime_policy: RuntimePolicy;
  readonly sleep_policy: SleepPolicy;
  readonly pinned: boolean;
  readonly critical: boolean;
  readonly seccomp_policy?: "baseline" | "strict" | undefined;
  readonly snapshot_compression?: "none" | "lz4" | "zstd" | undefined;
  readonly data_encryption?: "luks" | "none" | undefined;
  readonly egress: EgressPolicy;
  readonly ingress: readonly Ingress[];
  readonly routing_table?: { readonly routes: readonly DesiredRoute[] } | undefined;
  readonly integrations: readonly DesiredIntegration[];
  readonly secret_scopes: readonly SecretScope[];
  readonly health_check?: HealthCheck | undefined;
  readonly update_strategy: UpdateStrategy;
}

/** What of a pool's record a document decides. */
export type DocumentFields = Pick<
  Pool,
  | "role"
  | "flake_ref"
  | "profile"
  | "instance_resources"
  | "desired_counts"
  | "runtime_policy"
  | "start_timeout_seconds"
  | "gateway_routes"
  | "egress"
  | "pinned"
  | "critical"
  | "secret_scopes"
  | "update_strategy"
>;

const defaultStartTimeoutSeconds = 300;

/** The record of a pool as a document asks for it, as far as a document decides it. */
export function documentFields(desired: DesiredPool): DocumentFields {
  return {
    role: desired.role,
    flake_ref: desired.flake_ref,
    profile: desired.profile,
    instance_resources: desired.instance_resources,
    desired_counts: desired.desired_counts,
    runtime_policy: desired.runtime_policy,
    start_timeout_seconds:
      desired.health_check?.start_timeout_seconds ?? defaultStartTimeoutSeconds,
    gateway_routes: (desired.routing_table?.routes ?? []).flatMap((route) => plainRoute(route)),
    egress: desired.egress,
    pinned: desired.pinned,
    critical: desired.critical,
    secret_scopes: desired.secret_scopes,
    update_strategy: desired.update_strategy,
  };
}

/** The names of the fields that a pool's record and what a document asks for differ in. */
export function differingFields(pool: Pool, desired: DesiredPool): (keyof DocumentFields)[] {
  const wanted = documentFields(desired);
  return (Object.keys(wanted) as (keyof DocumentFields)[]).filter(
    (name) => JSON.stringify(wanted[name]) !== JSON.stringify(pool[name]),
  );
}

/** What a document asks of a pool and this version does not do, a few words each. */
export function unsupported(desired: DesiredPool): string[] {
  const { routing_table, health_check } = desired;
  const asked: Readonly<Record<string, boolean>> = {
    sleep_policy: desired.sleep_policy.enabled,
    seccomp_policy: desired.seccomp_policy === "strict",
    snapshot_compression: (desired.snapshot_compression ?? "none") !== "none",
    data_encryption: desired.data_encryption === "luks",
    ingress: desired.ingress.length > 0,
    "routing_table beyond ports": (routing_table?.routes ?? []).some(
      (route) => plainRoute(route).length === 0,
    ),
    integrations: desired.integrations.length > 0,
    "health_check beyond its start_timeout_seconds": health_check !== undefined,
  };
  return Object.keys(asked).filter((name) => asked[name] === true);
}

/** A route that only looks at the port is one that the gateway has. */
function plainRoute({ name, match, target }: DesiredRoute): GatewayRoute[] {
  const { port, ...rest } = match;
  const isPlain = Object.values(rest).every((value) => value === undefined);
  if (port === undefined || !isPlain || target.instance_selector !== "any") return [];
  const { pool_id, target_port } = target;
  return [{ name, listen_port: port, pool_id, target_port }];
}
