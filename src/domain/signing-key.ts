import { NotTrustedError } from "./errors.ts";

const publicKeyBytes = 32;

/** Parses base64 of the 32 bytes of an Ed25519 public key (RFC 8032), one line. @throws NotTrustedError */
export function parseSigningKey(text: string): Buffer {
  const trimmed = text.trim();
  const bytes = Buffer.from(trimmed, "base64");
  // Decoding is lenient: only what encodes to the same text again was base64 of these bytes.
  if (bytes.length === publicKeyBytes && bytes.toString("base64") === trimmed) return bytes;
  throw new NotTrustedError("the signing key is not base64 of the 32 bytes of an Ed25519 key", {
    hint: "give the coordinator's public key file: one line of 44 characters",
  });
}
