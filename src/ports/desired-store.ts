/** The desired-state document that is in force on this node. */
export interface AcceptedDesired {
  /** The exact bytes of the document. */
  readonly document: Uint8Array;
  /** SHA-256 of the document in hex. */
  readonly hash: string;
  readonly accepted_at: string;
  /** The newest signed document that was ever taken; null before the first. An older one is refused. */
  readonly signed: { readonly generation: number; readonly hash: string } | null;
  /** The key that the document in force is signed with; null when it is not signed. */
  readonly key_id: string | null;
}

/** What this node is to be, and whom it believes. */
export interface DesiredStore {
  /** @throws HostLacksError before `mvm add host` has made one. */
  nodeId(): Promise<string>;
  /** The public keys of the coordinators that this node believes, 32 bytes each; files that hold none are left out. */
  trustedKeys(): Promise<readonly Uint8Array[]>;
  /** @throws OperationError when it is there and cannot be read: then no older document may slip in. */
  load(): Promise<AcceptedDesired | undefined>;
  /** Replaces it whole or not at all, durably. The caller holds the node lock. */
  save(accepted: AcceptedDesired): Promise<void>;
}
