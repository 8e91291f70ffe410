import type { Instance } from "../domain/instance.ts";
import type { Pool } from "../domain/pool.ts";
import type { Tenant } from "../domain/tenant.ts";

/** What the guest said when it was last asked. */
export type ObservedHealth = "healthy" | "starting" | "unhealthy" | "unknown";

export interface ObservedInstance {
  readonly record: Instance;
  /** Whether a VMM of this id lives, and whether it is the recorded one. */
  readonly vmm: "recorded" | "other" | "none";
  readonly health: ObservedHealth;
  /** Why it is not healthy, in the guest's words. */
  readonly healthDetail: string;
}

/** A tenant as it should be (records) and as it is. */
export interface ObservedTenant {
  readonly tenant: Tenant;
  readonly pools: readonly Pool[];
  readonly networkReady: boolean;
  readonly instances: readonly ObservedInstance[];
  /** Of the secrets it has (`secretsHash` of the protocol), where a document says which it should have. */
  readonly secretsHash?: string;
}

/** What this host's VMM driver can do, as far as plans depend on it. */
export interface PlannerCapabilities {
  readonly memorySnapshot: boolean;
}
