import { X509Certificate } from "node:crypto";
import { NotTrustedError } from "../../domain/errors.ts";
import type { Peer, TransportIdentity } from "../../ports/transport.ts";

/** A certificate as the transport judges it. */
export interface PeerCertificate {
  readonly role: "coordinator" | "node";
  readonly id: string;
  readonly serial: string;
  readonly expiresAtMs: number;
}

const roles: Readonly<Record<string, PeerCertificate["role"]>> = {
  node: "node",
  coordinator: "coordinator",
};

/** Role and id of a certificate of mvm, from its subject (OU and CN). @throws NotTrustedError when it has none. */
export function readPeerCertificate(certificate: X509Certificate): PeerCertificate {
  const { CN, OU } = certificate.toLegacyObject().subject as {
    readonly CN?: unknown;
    readonly OU?: unknown;
  };
  // A subject that names two roles, or none that there is, comes as a list or as undefined.
  const role = typeof OU === "string" && Object.hasOwn(roles, OU) ? roles[OU] : undefined;
  if (typeof CN !== "string" || CN === "" || role === undefined) {
    throw new NotTrustedError("the certificate names no role of mvm");
  }
  return {
    role,
    id: CN,
    serial: normalSerial(certificate.serialNumber),
    expiresAtMs: Date.parse(certificate.validTo),
  };
}

/** A serial number in the one form in which they are compared. */
export function normalSerial(hex: string): string {
  return hex.toLowerCase().replace(/^0+(?=.)/, "");
}

/**
 * Judges the certificate a peer has proven to own. TLS has checked the chain before; here it is done
 * again, so that nothing rests on how the library was configured. @throws NotTrustedError
 */
export function judgePeer(
  chain: readonly Uint8Array[],
  identity: TransportIdentity,
  address: string,
  nowMs: number,
): Peer & { readonly serial: string } {
  const [leaf] = chain;
  if (leaf === undefined) throw new NotTrustedError("it showed no certificate");
  const certificate = new X509Certificate(leaf);
  const ca = new X509Certificate(identity.caPem);
  if (!certificate.checkIssued(ca) || !certificate.verify(ca.publicKey)) {
    throw new NotTrustedError("its certificate is of another CA");
  }
  const { role, id, serial, expiresAtMs } = readPeerCertificate(certificate);
  if (expiresAtMs <= nowMs) throw new NotTrustedError("its certificate has ended");
  if (Date.parse(certificate.validFrom) > nowMs) {
    throw new NotTrustedError("its certificate is not valid yet");
  }
  if (identity.revoked.has(serial)) throw new NotTrustedError("its certificate was revoked");
  return { role, id, serial, expiresAtMs, address };
}
