// The X.509 library needs it and does not load it itself.
import "reflect-metadata";
import { randomBytes, webcrypto, X509Certificate } from "node:crypto";
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
      new x509.SubjectAlternativeNameExtension([
        { type: "dns", value: "node.mvm" },
        { type: "dns", value: `${nodeId}.node.mvm` },
      ]),
    ],
  });
  return { keyPem: await exportKey(keys.privateKey), certificatePem: certificate.toString("pem") };
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
