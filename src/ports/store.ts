import type { InstanceAddress, PoolAddress, TenantId } from "../domain/ids.ts";
import type { Instance } from "../domain/instance.ts";
import type { Pool } from "../domain/pool.ts";
import type { Tenant } from "../domain/tenant.ts";

/** A state file that cannot be used; its object is left alone and everything else works. */
export interface CorruptFile {
  readonly path: string;
  readonly problem: string;
}

export interface TenantRecords {
  readonly tenant: Tenant;
  readonly pools: readonly Pool[];
  readonly instances: readonly Instance[];
}

export interface NodeRecords {
  /** Sorted by tenant id; pools by id; instances by pool and age. */
  readonly tenants: readonly TenantRecords[];
  readonly corrupt: readonly CorruptFile[];
}

/** The records of this node on disk. Each save is atomic; the caller holds the tenant's lock. */
export interface Store {
  load(): Promise<NodeRecords>;
  saveTenant(tenant: Tenant): Promise<void>;
  savePool(pool: Pool): Promise<void>;
  saveInstance(instance: Instance): Promise<void>;
  /** Removes a record, and its folder as far as nothing else is kept there. Removing what is gone is no error. */
  remove(address: { readonly tenant: TenantId } | PoolAddress | InstanceAddress): Promise<void>;
  /** Adds to the net ids ever used on this node and answers all of them. The caller holds the node lock. */
  useNetId(netId: number | undefined): Promise<ReadonlySet<number>>;
}
