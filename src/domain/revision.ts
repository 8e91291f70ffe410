import * as z from "zod/mini";
import { $ZodError } from "zod/v4/core";
import { UsageError } from "./errors.ts";
import { type RecordForm, parseRecord } from "./record-form.ts";

/** One file of an image revision. */
export interface RevisionFile {
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** An input of a flake as it was locked when an image was built. */
export interface RevisionInput {
  /** Its name in the flake's lock. */
  readonly name: string;
  readonly url: string;
  /** SRI, such as `sha256-…=`. */
  readonly nar_hash: string;
}

/** An image as it lies in the content store, `images/<hash>/`; `hash` covers the three files. */
export interface Revision {
  readonly schema_version: 2;
  readonly hash: string;
  readonly kernel: RevisionFile;
  readonly initrd: RevisionFile;
  readonly rootfs: RevisionFile;
  readonly flake_ref: string;
  /** The flake's locked URL and NAR hash. The host computed the hash, and Nix found the same. */
  readonly locked_url: string;
  readonly nar_hash: string;
  /** All inputs of the flake, sorted by name. */
  readonly inputs: readonly RevisionInput[];
  /** The package of the flake that it was made of, such as `default`. */
  readonly package: string;
  readonly profile: string;
  readonly role: string;
  readonly built_at: string;
  readonly built_by: string;
}

const file: z.ZodMiniType<RevisionFile> = z.strictObject({
  sha256: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
  sizeBytes: z.int().check(z.nonnegative()),
});

const schema: z.ZodMiniType<Revision> = z.strictObject({
  schema_version: z.literal(2),
  hash: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
  kernel: file,
  initrd: file,
  rootfs: file,
  flake_ref: z.string(),
  locked_url: z.string(),
  nar_hash: z.string(),
  inputs: z.array(z.strictObject({ name: z.string(), url: z.string(), nar_hash: z.string() })),
  package: z.string(),
  profile: z.string(),
  role: z.string(),
  built_at: z.string(),
  built_by: z.string(),
});

export const revisionForm: RecordForm<Revision> = {
  version: 2,
  schema,
  // What built those did not write down which inputs it had.
  migrations: { 1: (old) => ({ ...old, inputs: [], package: "" }) },
};

/** What a `revision.json` says; undefined when it cannot be read, as after a crash of the machine. */
export function parseRevision(text: string): Revision | undefined {
  try {
    return parseRecord(revisionForm, JSON.parse(text));
  } catch (error) {
    const isKnown =
      error instanceof SyntaxError || error instanceof $ZodError || error instanceof UsageError;
    if (!isKnown) throw error;
    return undefined;
  }
}
