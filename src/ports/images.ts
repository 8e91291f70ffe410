import type { PoolAddress } from "../domain/ids.ts";

export interface ImageFiles {
  readonly kernel: string;
  readonly initrd: string;
  readonly rootfs: string;
}

/** The content store of image revisions, and the links by which pools refer to them. */
export interface Images {
  /** @throws NotFoundError when the revision is not in the store. */
  files(hash: string): Promise<ImageFiles>;
  /** Makes `artifacts/` of a pool say what its record says: a link a revision, `current` switched atomically. */
  link(pool: PoolAddress, revisions: readonly string[]): Promise<void>;
  /** Removes every revision that is not in `kept`. @returns the hashes that were removed. */
  collect(kept: ReadonlySet<string>): Promise<string[]>;
}
