import { X509Certificate, createPrivateKey, sign, verify } from "node:crypto";
import { join } from "node:path";
import { isSystemError } from "../../domain/errors.ts";
import { readFileIfAny } from "../files.ts";
import type { HeadSignature, HeadSigner } from "./audit-head.ts";

/** Signs with the key of the node's certificate. The certificate goes with each signature, and counts when the node's CA issued it, also when it has ended since. */
export class NodeSigner implements HeadSigner {
  readonly #certs: string;

  constructor(stateDir: string) {
    this.#certs = join(stateDir, "certs");
  }

  async sign(text: string): Promise<HeadSignature | undefined> {
    const key = await readFileIfAny(join(this.#certs, "node.key"));
    const certificate = await readFileIfAny(join(this.#certs, "node.crt"));
    if (key === undefined || certificate === undefined) return undefined;
    const privateKey = createPrivateKey(key);
    // While a certificate is renewed the two files are of two keys for a moment: no signature then.
    if (!new X509Certificate(certificate).checkPrivateKey(privateKey)) return undefined;
    const digest = digestFor(privateKey.asymmetricKeyType);
    return {
      certificate,
      signature: sign(digest, Buffer.from(text), privateKey).toString("base64"),
    };
  }

  async check(text: string, signature: HeadSignature): Promise<string | undefined> {
    const ca = await readFileIfAny(join(this.#certs, "ca.crt"));
    if (ca === undefined) return "this node has no CA certificate to check it with";
    try {
      const certificate = new X509Certificate(signature.certificate);
      if (!certificate.verify(new X509Certificate(ca).publicKey)) {
        return "its certificate is none that this node's CA issued";
      }
      const own = await readFileIfAny(join(this.#certs, "node.crt"));
      if (own !== undefined && new X509Certificate(own).subject !== certificate.subject) {
        return "its certificate is another node's";
      }
      const { publicKey } = certificate;
      const bytes = Buffer.from(signature.signature, "base64");
      const digest = digestFor(publicKey.asymmetricKeyType);
      if (verify(digest, Buffer.from(text), publicKey, bytes)) return undefined;
      return "its signature does not fit what it says";
    } catch (error) {
      if (!isOpensslError(error) && !isSystemError(error)) throw error;
      return "its certificate or signature cannot be read";
    }
  }
}

/** EdDSA hashes by itself. */
function digestFor(keyType: string | undefined): "sha256" | null {
  return keyType === "ed25519" || keyType === "ed448" ? null : "sha256";
}

/** What OpenSSL says of bytes that are no certificate or key. */
function isOpensslError(error: unknown): boolean {
  return (
    error instanceof Error &&
    "code" in error &&
    typeof error.code === "string" &&
    error.code.startsWith("ERR_OSSL")
  );
}
