import type { EgressPolicy } from "./egress.ts";
import type { PoolId } from "./ids.ts";
import type { DesiredCounts, InstanceResources, RuntimePolicy } from "./pool.ts";
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
