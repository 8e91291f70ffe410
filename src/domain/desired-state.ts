import type { DesiredPool } from "./desired-pool.ts";
import type { TenantId } from "./ids.ts";
import type { Quotas } from "./quota.ts";

/** In a document's `node_id`: the node that it is given to, or the one its signed envelope names. */
export const localNode = "local";
/** The most bytes a document may have. */
export const maxDocumentBytes: number = 8 * 1024 * 1024;

/** A tenant as a desired-state document asks for it. Its network is the coordinator's to give, the same on every node. */
export interface DesiredTenant {
  readonly tenant_id: TenantId;
  readonly network: {
    /** 0 to 4095. */
    readonly tenant_net_id: number;
    /** The /24 that belongs to the net id, such as `10.240.1.0/24`. */
    readonly ipv4_subnet: string;
  };
  readonly quotas: Quotas;
  readonly pinned: boolean;
  /** Of the secrets that the coordinator expects; see `secretsHash` of the protocol. */
  readonly secrets_hash?: string | undefined;
  readonly pools: readonly DesiredPool[];
}

/** What a coordinator wants of a node, whole: `schema_version` 1 of docs/desired-state-schema.md with every default filled in. */
export interface DesiredState {
  readonly schema_version: 1;
  /** A node's id, or `local`. */
  readonly node_id: string;
  readonly tenants: readonly DesiredTenant[];
  /** Tenants that a document manages and this one does not name are destroyed. */
  readonly prune_unknown_tenants: boolean;
  /** The same for pools of the tenants it names. */
  readonly prune_unknown_pools: boolean;
}
