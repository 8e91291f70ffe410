import type { PoolAddress } from "../domain/ids.ts";
import type { Revision } from "../domain/revision.ts";

export interface ImageFiles {
  readonly kernel: string;
  readonly initrd: string;
  readonly rootfs: string;
}

/** The content store of image revisions, and the links by which pools refer to them. */
export interface Images {
  /** @throws NotFoundError when the revision is not in the store. */
  files(hash: string): Promise<ImageFiles>;
  /** What is recorded of a revision; undefined when it is not in the store, or its record cannot be read. */
  describe(hash: string): Promise<Revision | undefined>;
  /** Makes `artifacts/` of a pool say what its record says: a link a revision, `current` switched atomically. */
  link(pool: PoolAddress, revisions: readonly string[]): Promise<void>;
  /** Removes every revision that is not in `kept`. @returns the hashes that were removed. */
  collect(kept: ReadonlySet<string>): Promise<string[]>;
}
