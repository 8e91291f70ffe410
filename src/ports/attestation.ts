/** Vouches for what a machine booted and runs, towards someone who is elsewhere. */
export interface AttestationProvider {
  /** As NodeInfo says it, such as `tpm2`; `none` for one that vouches for nothing. */
  readonly name: string;
  /** Signed evidence that answers a challenge of at most 64 bytes, so that it is no older than that; undefined where there is none. */
  evidence(challenge: Uint8Array): Promise<Uint8Array | undefined>;
}
