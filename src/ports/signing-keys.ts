import type { KeyObject } from "node:crypto";

/** The coordinator's key for documents. */
export interface SigningKeys {
  /** Makes a key pair, once. @returns the public key as nodes are given it, and its file. @throws ConflictError when there is one. */
  generate(): Promise<{ readonly publicKey: string; readonly path: string }>;
  /** The private key (Ed25519); undefined when there is none. @param path another than the coordinator's own. @throws NotTrustedError for a file that holds none. */
  load(path?: string): Promise<KeyObject | undefined>;
}
