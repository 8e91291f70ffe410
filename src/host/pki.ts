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

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const dayMs = 86_400_000;
const caDays = 3650;
const nodeDays = 90;
/** A clock that is a little behind must not find a new certificate not yet valid. */
const clockSlackMs = 300_000;

export interface KeyAndCertificate {
  /** PKCS #8 PEM. */
  readonly keyPem: string;
  readonly certificatePem: string;
}

/** Makes a self-signed CA for development: key and certificate lie on the node that made it. */
export async function makeDevelopmentCa(nodeId: string, nowMs: number): Promise<KeyAndCertificate> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: `CN=mvm development CA of ${nodeId}, O=mvm`,
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

/**
 * Issues a node's certificate: role and node id in its subject, and the DNS names `node.mvm` and
 * `<node id>.node.mvm` that peers dial with.
 */
export async function issueNodeCertificate(
  nodeId: string,
  ca: KeyAndCertificate,
  nowMs: number,
): Promise<KeyAndCertificate> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const issuer = new x509.X509Certificate(ca.certificatePem);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: `CN=${nodeId}, OU=node, O=mvm`,
    issuer: issuer.subject,
    notBefore: new Date(nowMs - clockSlackMs),
    notAfter: new Date(nowMs + nodeDays * dayMs),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey: await importKey(ca.keyPem),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
      nodeNames(nodeId),
    ],
  });
  return { keyPem: await exportKey(keys.privateKey), certificatePem: certificate.toString("pem") };
}

/**
 * Makes a key and a request for a certificate that says what `issueNodeCertificate` would: the CA that
 * answers it decides. @param keyPem an earlier key, to ask for it again.
 */
export async function requestNodeCertificate(
  nodeId: string,
  keyPem: string | undefined,
): Promise<{ readonly keyPem: string; readonly requestPem: string }> {
  const keys =
    keyPem === undefined
      ? await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"])
      : await importKeyPair(keyPem);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: `CN=${nodeId}, OU=node, O=mvm`,
    keys,
    signingAlgorithm: algorithm,
    extensions: [nodeNames(nodeId)],
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

function nodeNames(nodeId: string): x509.SubjectAlternativeNameExtension {
  return new x509.SubjectAlternativeNameExtension([
    { type: "dns", value: "node.mvm" },
    { type: "dns", value: `${nodeId}.node.mvm` },
  ]);
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

async function importKey(pem: string): Promise<webcrypto.CryptoKey> {
  const [der] = x509.PemConverter.decode(pem);
  if (der === undefined) throw new Error("the CA key is no PEM");
  return webcrypto.subtle.importKey("pkcs8", der, algorithm, true, ["sign"]);
}
