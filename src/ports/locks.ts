import type { TenantId } from "../domain/ids.ts";

/**
 * The kernel's locks: each ends with its holder. Taken in this order only: tenant, build, node.
 * `what` tells others what the holder does. A lock that is not free within its time is a
 * ConflictError that names the holder.
 */
export interface Locks {
  withTenant<T>(tenant: TenantId, what: string, work: () => Promise<T>): Promise<T>;
  withBuild<T>(key: string, what: string, work: () => Promise<T>): Promise<T>;
  /** For what tenants share: net ids and the network. Held briefly. */
  withNode<T>(what: string, work: () => Promise<T>): Promise<T>;
}
