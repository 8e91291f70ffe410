import type { DesiredPool } from "../domain/desired-pool.ts";
import type { DesiredTenant } from "../domain/desired-state.ts";
import {
  type InstanceAddress,
  type PoolAddress,
  type TenantId,
  formatInstance,
  formatPool,
} from "../domain/ids.ts";
import type { InstanceStatus } from "../domain/lifecycle.ts";
import type { QuotaExcess } from "../domain/quota.ts";

/** One step towards the desired state: plain data, carried out by the executor. Doing it twice is doing it once. */
export type Action =
  /** Makes the tenant of a document, or changes it to what the document says; its pools are apart. */
  | { readonly kind: "apply-tenant"; readonly desired: DesiredTenant }
  | { readonly kind: "apply-pool"; readonly pool: PoolAddress; readonly desired: DesiredPool }
  /** What no document names any more, and that is empty by now. */
  | { readonly kind: "remove-pool"; readonly pool: PoolAddress }
  | { readonly kind: "remove-tenant"; readonly tenant: TenantId }
  | { readonly kind: "ensure-network"; readonly tenant: TenantId }
  /** An operation that nobody works on any more, or a VMM that is not as recorded. */
  | { readonly kind: "settle-instance"; readonly instance: InstanceAddress }
  | { readonly kind: "build-image"; readonly pool: PoolAddress }
  /** All instances are well with it: from now on it is what a rollback goes back to. */
  | { readonly kind: "confirm-image"; readonly pool: PoolAddress; readonly revision: string }
  /** Instances with `from` do not become healthy: `revision` is current again. */
  | {
      readonly kind: "rollback-image";
      readonly pool: PoolAddress;
      readonly revision: string;
      readonly from: string;
    }
  | { readonly kind: "create-instance"; readonly pool: PoolAddress }
  /** A fresh boot. A spare is parked warm once it is healthy. */
  | { readonly kind: "start-instance"; readonly instance: InstanceAddress; readonly spare: boolean }
  | { readonly kind: "resume-instance"; readonly instance: InstanceAddress }
  | { readonly kind: "warm-instance"; readonly instance: InstanceAddress }
  | { readonly kind: "stop-instance"; readonly instance: InstanceAddress }
  /** Its data disk stays. */
  | { readonly kind: "destroy-instance"; readonly instance: InstanceAddress };

export type ActionKind = Action["kind"];

/** Why something that the desired state asks for was not planned. */
export type HeldReason =
  | "quota"
  | "minimum-runtime"
  | "manual-override"
  | "pinned"
  | "critical"
  | "backoff"
  | "waiting-for-gateway"
  | "waiting-for-health"
  | "start-limit"
  | "unhealthy"
  | "no-address"
  | "not-supported"
  | "clash"
  | "document-overridden"
  | "secrets-out-of-date"
  | "waiting-for-update"
  | "waiting-for-prune"
  | "rolled-back"
  | "tenant-is-being-destroyed";

export interface Held {
  /** Address of the tenant, pool or instance. */
  readonly object: string;
  readonly reason: HeldReason;
  /** One sentence for a person. */
  readonly detail: string;
  /** When the hold ends by itself, milliseconds since 1970, where that is known. */
  readonly untilMs?: number;
  /** The transition that a minimum running or warm time defers. */
  readonly to?: InstanceStatus;
  /** The quota that forbids it. */
  readonly quota?: QuotaExcess;
}

export interface Plan {
  readonly actions: readonly Action[];
  readonly held: readonly Held[];
}

/** Whether waiting can end this hold without a person or a new desired state. */
export function endsByItself(held: Held): boolean {
  switch (held.reason) {
    case "minimum-runtime":
    case "waiting-for-gateway":
    case "waiting-for-health":
    case "start-limit":
    case "waiting-for-update":
    case "waiting-for-prune":
    case "backoff":
      return true;
    case "quota":
    case "manual-override":
    case "pinned":
    case "critical":
    case "unhealthy":
    case "no-address":
    case "not-supported":
    case "clash":
    case "document-overridden":
    case "secrets-out-of-date":
    case "rolled-back":
    case "tenant-is-being-destroyed":
      return false;
  }
}

/** The address of what an action works on. */
export function objectOf(action: Action): string {
  switch (action.kind) {
    case "apply-tenant":
      return action.desired.tenant_id;
    case "ensure-network":
    case "remove-tenant":
      return action.tenant;
    case "apply-pool":
    case "remove-pool":
    case "build-image":
    case "confirm-image":
    case "rollback-image":
    case "create-instance":
      return formatPool(action.pool);
    case "settle-instance":
    case "start-instance":
    case "resume-instance":
    case "warm-instance":
    case "stop-instance":
    case "destroy-instance":
      return formatInstance(action.instance);
  }
}

/** The tenant that an action works for. */
export function tenantOf(action: Action): TenantId {
  if (action.kind === "apply-tenant") return action.desired.tenant_id;
  if ("tenant" in action) return action.tenant;
  return "pool" in action ? action.pool.tenant : action.instance.tenant;
}
