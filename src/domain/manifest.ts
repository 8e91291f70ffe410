import type { EgressPolicy } from "./egress.ts";
import type { PoolId, TenantId } from "./ids.ts";
import type { DesiredCounts, GatewayRoute, InstanceResources, RuntimePolicy } from "./pool.ts";
import type { Quotas } from "./quota.ts";
import type { Role } from "./roles.ts";
import type { SecretScope } from "./secret-scopes.ts";

type Asked<T> = { readonly [Name in keyof T]?: T[Name] | undefined };

/** A pool as a deploy manifest asks for it. What it does not name is left as it is, or takes its default in a new pool. */
export interface ManifestPool {
  readonly pool_id: PoolId;
  readonly flake_ref: string;
  readonly profile: string;
  readonly role: Role;
  readonly instance_resources: InstanceResources;
  readonly desired_counts: DesiredCounts;
  readonly runtime_policy?: Asked<RuntimePolicy> | undefined;
  readonly start_timeout_seconds?: number | undefined;
  readonly egress?: EgressPolicy | undefined;
  /** Of gateway pools. */
  readonly gateway_routes?: readonly GatewayRoute[] | undefined;
  readonly secret_scopes?: readonly SecretScope[] | undefined;
  readonly pinned?: boolean | undefined;
  readonly critical?: boolean | undefined;
}

/** A whole deployment, as `mvm deploy` reads it. The names are those of the desired-state document. */
export interface Manifest {
  readonly tenant_id: TenantId;
  readonly network?:
    | { readonly tenant_net_id?: number | undefined; readonly ipv4_subnet?: string | undefined }
    | undefined;
  readonly quotas?: Asked<Quotas> | undefined;
  readonly pinned?: boolean | undefined;
  readonly pools: readonly ManifestPool[];
}
