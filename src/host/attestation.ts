import type { AttestationProvider } from "../ports/attestation.ts";

/** A machine for which nobody vouches, and that says so. */
export const noAttestation: AttestationProvider = {
  name: "none",
  evidence: async () => undefined,
};
