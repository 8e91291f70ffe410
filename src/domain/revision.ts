import { z } from "zod";

/** One file of an image revision. */
export interface RevisionFile {
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** An image as it lies in the content store, `images/<hash>/`; `hash` covers the three files. */
export interface Revision {
  readonly schema_version: 1;
  readonly hash: string;
  readonly kernel: RevisionFile;
  readonly initrd: RevisionFile;
  readonly rootfs: RevisionFile;
  readonly flake_ref: string;
  /** The flake's locked URL and NAR hash, as Nix reported them. */
  readonly locked_url: string;
  readonly nar_hash: string;
  readonly profile: string;
  readonly role: string;
  readonly built_at: string;
  readonly built_by: string;
}

const file: z.ZodType<RevisionFile> = z.strictObject({
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  sizeBytes: z.number().int().nonnegative(),
});

export const revisionSchema: z.ZodType<Revision> = z.strictObject({
  schema_version: z.literal(1),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  kernel: file,
  initrd: file,
  rootfs: file,
  flake_ref: z.string(),
  locked_url: z.string(),
  nar_hash: z.string(),
  profile: z.string(),
  role: z.string(),
  built_at: z.string(),
  built_by: z.string(),
});
