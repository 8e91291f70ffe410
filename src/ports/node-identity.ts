import type { TransportIdentity } from "./transport.ts";

/** What a node shows and how it stands, as `mvm agent certs status` prints it. */
export interface IdentityStatus {
  readonly node_id: string;
  /** Whose CA: this node's own of development, one elsewhere, or none yet. */
  readonly authority: "none" | "development" | "external";
  /** Null before there is a certificate. */
  readonly certificate: {
    readonly serial: string;
    readonly not_before: string;
    readonly expires_at: string;
    readonly expired: boolean;
    /** From then on it is to be renewed: half of its life is over. */
    readonly renew_at: string;
  } | null;
  /** A request waits for its answer. */
  readonly requested: boolean;
  /** How many certificates of its CA this node knows to be revoked. */
  readonly revoked: number;
}

/** What an installation changed. */
export interface InstalledIdentity {
  /** Null when no certificate came. */
  readonly serial: string | null;
  readonly expires_at: string | null;
  readonly revoked: number;
}

/** The node's key and certificate. A key never leaves the node; the new one is in use only with its certificate. */
export interface NodeIdentity {
  /** @throws HostLacksError when there is none yet. */
  current(): Promise<TransportIdentity>;
  /** @throws HostLacksError before `mvm add host`. */
  status(): Promise<IdentityStatus>;
  /** Makes what is missing: with a CA elsewhere (PEM) a key and a request, else a development CA and its certificate. Nothing is overwritten. @returns what was made, a line each. */
  init(caPem?: string): Promise<string[]>;
  /** Makes the next key, or takes the one that waits for its certificate. @returns a signing request, PEM. */
  request(): Promise<string>;
  /**
   * Takes the answer to the last request, a newer revocation list of the node's CA, or both; PEM. What is
   * refused changes nothing. @throws NotTrustedError for what is not of this node's CA, key and id.
   */
  install(parts: {
    readonly certificate?: string | undefined;
    readonly revocations?: string | undefined;
  }): Promise<InstalledIdentity>;
  /** Key and certificate anew from the development CA that lies on this node. @throws ConflictError with a CA elsewhere. */
  rotate(): Promise<InstalledIdentity>;
}
