// The X.509 library needs it and does not load it itself.
import "reflect-metadata";
import {
  createPrivateKey,
  createPublicKey,
  randomBytes,
  webcrypto,
  X509Certificate,
} from "node:crypto";
import * as x509 from "@peculiar/x509";
import { NotTrustedError } from "../domain/errors.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const dayMs = 86_400_000;
const caDays = 3650;
/** How long a certificate is good for where nobody renews it. */
const defaultCertificateDays = 90;
/** A clock that is a little behind must not find a new certificate not yet valid. */
const clockSlackMs = 300_000;

export interface KeyAndCertificate {
  /** PKCS #8 PEM. */
  readonly keyPem: string;
  readonly certificatePem: string;
}

/** Whom a certificate is for. */
export interface CertificateSubject {
  readonly role: "coordinator" | "node";
  /** A node's id, or a coordinator's name. */
  readonly id: string;
}

/** Makes a self-signed CA for development: key and certificate lie on the node that made it. */
export async function makeDevelopmentCa(nodeId: string, nowMs: number): Promise<KeyAndCertificate> {
  return makeCa(`mvm development CA of ${nodeId}`, nowMs);
}

/** Makes a self-signed CA that can issue certificates for ends, and no other CA. */
export async function makeCa(name: string, nowMs: number): Promise<KeyAndCertificate> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: [{ CN: [name] }, { O: ["mvm"] }],
    notBefore: new Date(nowMs - clockSlackMs),
    notAfter: new Date(nowMs + caDays * dayMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
        true,
      ),
    ],
  });
  return { keyPem: await exportKey(keys.privateKey), certificatePem: certificate.toString("pem") };
}

/** Issues a certificate with a new key for a node; see `issueCertificate`. */
export async function issueNodeCertificate(
  nodeId: string,
  ca: KeyAndCertificate,
  nowMs: number,
): Promise<KeyAndCertificate> {
  return issueWithNewKey({ role: "node", id: nodeId }, ca, nowMs, defaultCertificateDays * dayMs);
}

/** Issues a certificate with a new key; see `issueCertificate`. */
export async function issueWithNewKey(
  subject: CertificateSubject,
  ca: KeyAndCertificate,
  nowMs: number,
  lifeMs: number,
): Promise<KeyAndCertificate> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  return {
    keyPem: await exportKey(keys.privateKey),
    certificatePem: await issueCertificate(subject, keys.publicKey, ca, nowMs, lifeMs),
  };
}

/**
 * Issues a certificate: role and id in its subject (OU and CN), and for a node the DNS names `node.mvm`
 * and `<node id>.node.mvm` that peers dial with. A coordinator's is for clients alone, so that nobody
 * takes it for a node's.
 */
async function issueCertificate(
  subject: CertificateSubject,
  publicKey: webcrypto.CryptoKey,
  ca: KeyAndCertificate,
  nowMs: number,
  lifeMs: number,
): Promise<string> {
  const issuer = new x509.X509Certificate(ca.certificatePem);
  const { clientAuth, serverAuth } = x509.ExtendedKeyUsage;
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: nameOf(subject),
    issuer: issuer.subject,
    notBefore: new Date(nowMs - clockSlackMs),
    // Never longer than the CA itself: nobody would find fault with it before that ends.
    notAfter: new Date(Math.min(nowMs + lifeMs, issuer.notAfter.getTime())),
    signingAlgorithm: algorithm,
    publicKey,
    signingKey: await importKey(ca.keyPem),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(
        subject.role === "node" ? [serverAuth, clientAuth] : [clientAuth],
      ),
      ...namesOf(subject),
    ],
  });
  return certificate.toString("pem");
}

/**
 * Answers a signing request: of what it says, only the public key is taken, since whoever made it may
 * ask for anything. @param who decides whom it is for, from the id it asks for. @throws NotTrustedError
 */
export async function answerRequest(
  requestPem: string,
  who: (askedId: string | undefined) => CertificateSubject,
  ca: KeyAndCertificate,
  nowMs: number,
  lifeMs: number,
): Promise<{ readonly subject: CertificateSubject; readonly certificatePem: string }> {
  const request = readRequest(requestPem);
  if (!(await request.verify())) {
    throw new NotTrustedError("the signing request does not prove that its maker has the key");
  }
  const { name, namedCurve } = request.publicKey.algorithm as { name: string; namedCurve?: string };
  if (name !== algorithm.name || namedCurve !== algorithm.namedCurve) {
    throw new NotTrustedError("the signing request has no ECDSA P-256 key");
  }
  const [asked, ...more] = request.subjectName.getField("CN");
  const subject = who(more.length === 0 ? asked : undefined);
  const publicKey = await request.publicKey.export(algorithm, ["verify"]);
  const certificatePem = await issueCertificate(subject, publicKey, ca, nowMs, lifeMs);
  return { subject, certificatePem };
}

function readRequest(pem: string): x509.Pkcs10CertificateRequest {
  try {
    return new x509.Pkcs10CertificateRequest(pem);
  } catch (error) {
    // The library says of anything it cannot read that it is wrong, in one class or another.
    if (!(error instanceof Error)) throw error;
    throw new NotTrustedError("this is no signing request in PEM form", { cause: error });
  }
}

/**
 * Makes a key and a request for a node's certificate: the CA that answers it decides.
 * @param keyPem an earlier key, to ask for it again.
 */
export async function requestNodeCertificate(
  nodeId: string,
  keyPem: string | undefined,
): Promise<{ readonly keyPem: string; readonly requestPem: string }> {
  const subject = { role: "node", id: nodeId } as const;
  const keys =
    keyPem === undefined
      ? await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"])
      : await importKeyPair(keyPem);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: nameOf(subject),
    keys,
    signingAlgorithm: algorithm,
    extensions: namesOf(subject),
  });
  return {
    keyPem: keyPem ?? (await exportKey(keys.privateKey)),
    requestPem: request.toString("pem"),
  };
}

/** What is wrong with a text as the certificate of a CA at a time; undefined when nothing is. */
export function authorityProblem(certificatePem: string, nowMs: number): string | undefined {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(certificatePem);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return "it is no certificate in PEM form";
  }
  if (!certificate.ca)
    return "it is the certificate of no CA (basicConstraints CA:TRUE is missing)";
  const usages = new x509.X509Certificate(certificatePem).getExtension(
    x509.KeyUsagesExtension,
  )?.usages;
  if (usages !== undefined && (usages & x509.KeyUsageFlags.keyCertSign) === 0) {
    return "it may not sign certificates (keyUsage keyCertSign is missing)";
  }
  if (Date.parse(certificate.validTo) <= nowMs) return `it ended on ${certificate.validTo}`;
  if (Date.parse(certificate.validFrom) > nowMs) return `it begins on ${certificate.validFrom}`;
  return undefined;
}

/** SHA-256 of a certificate, as OpenSSL writes it. */
export function certificateFingerprint(certificatePem: string): string {
  return new X509Certificate(certificatePem).fingerprint256;
}

/** Whether a key is the one a certificate was made for. */
export function isKeyOf(keyPem: string, certificatePem: string): boolean {
  return new X509Certificate(certificatePem).checkPrivateKey(createPrivateKey(keyPem));
}

/** When a certificate ends, in milliseconds since 1970, and whether `caPem` signed it. */
export function readCertificate(
  certificatePem: string,
  caPem: string,
): { readonly expiresAtMs: number; readonly signedByCa: boolean } {
  const certificate = new X509Certificate(certificatePem);
  return {
    expiresAtMs: Date.parse(certificate.validTo),
    signedByCa: certificate.verify(new X509Certificate(caPem).publicKey),
  };
}

/** As a structure and not as a text: an id is never taken for more parts of a name. */
function nameOf({ role, id }: CertificateSubject): x509.JsonName {
  return [{ CN: [id] }, { OU: [role] }, { O: ["mvm"] }];
}

function namesOf({ role, id }: CertificateSubject): x509.SubjectAlternativeNameExtension[] {
  if (role !== "node") return [];
  return [
    new x509.SubjectAlternativeNameExtension([
      { type: "dns", value: "node.mvm" },
      { type: "dns", value: `${id}.node.mvm` },
    ]),
  ];
}

async function importKeyPair(keyPem: string): Promise<webcrypto.CryptoKeyPair> {
  const publicPem = createPublicKey(createPrivateKey(keyPem)).export({
    type: "spki",
    format: "der",
  });
  const publicKey = await webcrypto.subtle.importKey("spki", publicPem, algorithm, true, [
    "verify",
  ]);
  return { privateKey: await importKey(keyPem), publicKey };
}

function serial(): string {
  // Positive and without a leading zero byte, as DER wants its integers.
  return `01${randomBytes(15).toString("hex")}`;
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}

export async function importKey(pem: string): Promise<webcrypto.CryptoKey> {
  const [der] = x509.PemConverter.decode(pem);
  if (der === undefined) throw new Error("the CA key is no PEM");
  return webcrypto.subtle.importKey("pkcs8", der, algorithm, true, ["sign"]);
}
