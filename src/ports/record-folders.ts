import type { InstanceAddress, PoolAddress, TenantAddress } from "../domain/ids.ts";

/** A record's place: the folders down to it. */
export type RecordAddress = TenantAddress | PoolAddress | InstanceAddress;

/**
 * The folders that hold records, and beside them what only root may touch. Where agentd has a user of its
 * own they stay root's, so that nothing in them can be put in another's place.
 */
export interface RecordFolders {
  /** Makes those that are missing. @throws NotTrustedError when something else is in the place of one. */
  make(of: RecordAddress): Promise<void>;
  /** Removes a record's own folder, and the empty ones that hold only others' records, unless something is left in it. */
  remove(of: RecordAddress): Promise<void>;
}

/** The net ids ever used on this node. The caller holds the node lock. */
export interface NetIds {
  /** Adds one, if one is given. @returns all of them. */
  use(netId: number | undefined): Promise<ReadonlySet<number>>;
}
