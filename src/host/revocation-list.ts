import * as x509 from "@peculiar/x509";
import { NotTrustedError } from "../domain/errors.ts";
import { type KeyAndCertificate, importKey } from "./pki.ts";
import { normalSerial } from "./quic/peer-certificate.ts";

const algorithm = { name: "ECDSA", hash: "SHA-256" } as const;
const dayMs = 86_400_000;
/** A list is made anew at each revocation and stays good until then: nodes never forget one. */
const listDays = 3650;

/** What a CA took back (RFC 5280, 5). */
export interface RevocationList {
  /** Serial numbers in lower-case hex. */
  readonly serials: ReadonlySet<string>;
  readonly madeAtMs: number;
}

/** Makes the list of all certificates that a CA took back. */
export async function makeRevocationList(
  ca: KeyAndCertificate,
  revoked: readonly { readonly serial: string; readonly atMs: number }[],
  nowMs: number,
): Promise<string> {
  const list = await x509.X509CrlGenerator.create({
    issuer: new x509.X509Certificate(ca.certificatePem).subject,
    thisUpdate: new Date(nowMs),
    nextUpdate: new Date(nowMs + listDays * dayMs),
    signingAlgorithm: algorithm,
    signingKey: await importKey(ca.keyPem),
    entries: revoked.map(({ serial, atMs }) => ({
      serialNumber: serial.length % 2 === 0 ? serial : `0${serial}`,
      revocationDate: new Date(atMs),
    })),
  });
  return list.toString("pem");
}

/** Reads a list and checks that this CA signed it. @throws NotTrustedError */
export async function readRevocationList(pem: string, caPem: string): Promise<RevocationList> {
  let list: x509.X509Crl;
  try {
    list = new x509.X509Crl(pem);
  } catch (error) {
    // The library says of anything it cannot read that it is wrong, in one class or another.
    if (!(error instanceof Error)) throw error;
    throw new NotTrustedError("this is no revocation list in PEM form", { cause: error });
  }
  const ca = new x509.X509Certificate(caPem);
  if (!(await list.verify({ publicKey: ca.publicKey }))) {
    throw new NotTrustedError("the revocation list is not signed by this CA");
  }
  return {
    serials: new Set(list.entries.map(({ serialNumber }) => normalSerial(serialNumber))),
    madeAtMs: list.thisUpdate.getTime(),
  };
}
