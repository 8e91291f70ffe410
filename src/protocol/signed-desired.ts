import { type KeyObject, createHash, createPublicKey, sign, verify } from "node:crypto";
import * as z from "zod/mini";
import { DesiredRefusedError } from "../domain/desired-refusal.ts";
import { maxDocumentBytes } from "../domain/desired-state.ts";

/** The name of the signed form, and the first thing its signature covers. */
export const signedFormat = "mvm-desired/1";

/** What binds a document to a node, an order and a time. */
export interface SignedEnvelope {
  readonly format: typeof signedFormat;
  /** The id of the one node it is for. */
  readonly node_id: string;
  /** From 1; a node takes no older one than it took last. */
  readonly generation: number;
  /** Until when it may be taken, ISO 8601 in UTC. What was taken stays in force after that. */
  readonly expires_at: string;
  /** Of the key it is signed with; see `signingKeyId`. */
  readonly key_id: string;
}

/** A desired-state document as a coordinator signs it. */
export interface SignedDesired {
  readonly envelope: SignedEnvelope;
  /** The exact bytes of the document, base64. */
  readonly payload: string;
  /** Ed25519 (RFC 8032) over `signedBytes`, base64. */
  readonly signature: string;
}

/** A document whose signature was checked. */
export interface VerifiedDesired {
  readonly envelope: SignedEnvelope;
  readonly payload: Buffer;
}

/** Decoding is lenient: only what encodes to the same text again is taken, so that one document has one form. */
const base64: z.ZodMiniType<string> = z
  .string()
  .check(z.refine((text) => Buffer.from(text, "base64").toString("base64") === text));
const signedSchema: z.ZodMiniType<SignedDesired> = z.lazy(() =>
  z.strictObject({
    envelope: z.strictObject({
      format: z.literal(signedFormat),
      node_id: z.string().check(z.minLength(1), z.maxLength(64)),
      generation: z.int().check(z.gte(1)),
      expires_at: z.iso.datetime(),
      key_id: z.string().check(z.regex(/^[0-9a-f]{16}$/)),
    }),
    payload: base64.check(z.maxLength(Math.ceil(maxDocumentBytes / 3) * 4)),
    signature: base64.check(z.length(88)),
  }),
);

/** Tells the signing keys of coordinators apart: the first 16 hex digits of the SHA-256 of the 32 bytes of the public key. */
export function signingKeyId(publicKey: Uint8Array): string {
  return createHash("sha256").update(publicKey).digest("hex").slice(0, 16);
}

/** The 32 bytes of an Ed25519 public key, of a public or private key (RFC 8410). */
export function rawPublicKey(key: KeyObject): Buffer {
  const spki = createPublicKey(
    key.type === "private" ? key : key.export({ format: "pem", type: "spki" }),
  ).export({ format: "der", type: "spki" });
  return spki.subarray(spkiPrefix.length);
}

/** An Ed25519 public key from its 32 bytes (RFC 8410). */
export function publicKeyOf(raw: Uint8Array): KeyObject {
  return createPublicKey({
    key: Buffer.concat([spkiPrefix, raw]),
    format: "der",
    type: "spki",
  });
}

/** SubjectPublicKeyInfo of Ed25519 up to the key itself (RFC 8410, section 4). */
const spkiPrefix: Buffer = Buffer.from("302a300506032b6570032100", "hex");

/**
 * What the signature of a document covers: format, node id, generation (decimal), expiry, key id and
 * payload, in this order, each as a 4-byte big-endian length and then its bytes (texts in UTF-8). With
 * the lengths no byte can move from one to the next.
 */
export function signedBytes(envelope: SignedEnvelope, payload: Uint8Array): Buffer {
  const { format, node_id, generation, expires_at, key_id } = envelope;
  const texts = [format, node_id, String(generation), expires_at, key_id];
  return Buffer.concat(
    [...texts.map((text) => Buffer.from(text, "utf8")), payload].flatMap((part) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(part.length);
      return [length, part];
    }),
  );
}

/** Signs a document for one node. `key` is an Ed25519 private key; the envelope's format and key id follow from it. */
export function signDesired(
  key: KeyObject,
  about: { readonly node_id: string; readonly generation: number; readonly expires_at: string },
  document: Uint8Array,
): SignedDesired {
  const envelope: SignedEnvelope = {
    format: signedFormat,
    node_id: about.node_id,
    generation: about.generation,
    expires_at: about.expires_at,
    key_id: signingKeyId(rawPublicKey(key)),
  };
  return {
    envelope,
    payload: Buffer.from(document).toString("base64"),
    signature: sign(null, signedBytes(envelope, document), key).toString("base64"),
  };
}

/** What a signed document is checked against. */
export interface VerifyOptions {
  /** The public keys of the coordinators that are believed, 32 bytes each. */
  readonly trustedKeys: readonly Uint8Array[];
  readonly nodeId: string;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
}

/**
 * Checks a document as it came: form, key, signature, node, expiry, in this order. The payload is not
 * looked into before its signature is right.
 * @throws DesiredRefusedError with the reason: malformed, unknown-key, bad-signature, wrong-node, expired.
 */
export function verifyDesired(value: unknown, options: VerifyOptions): VerifiedDesired {
  const { envelope, payload, signature } = parseSigned(value);
  const raw = options.trustedKeys.find((key) => signingKeyId(key) === envelope.key_id);
  if (raw === undefined) {
    throw new DesiredRefusedError(
      "unknown-key",
      `the document is signed with key ${envelope.key_id}, which this node does not believe`,
      { hint: "if it is the coordinator's: mvm add host --signing-key coordinator.pub" },
    );
  }
  const document = Buffer.from(payload, "base64");
  const covered = signedBytes(envelope, document);
  if (!verify(null, covered, publicKeyOf(raw), Buffer.from(signature, "base64"))) {
    throw new DesiredRefusedError(
      "bad-signature",
      `the signature of the document is not that of key ${envelope.key_id}: something in it was changed`,
      { hint: "sign it anew: mvm coordinator sign" },
    );
  }
  if (envelope.node_id !== options.nodeId) {
    throw new DesiredRefusedError(
      "wrong-node",
      `the document is for node ${envelope.node_id}, and this is ${options.nodeId}`,
      { hint: "sign it for this node" },
    );
  }
  if (Date.parse(envelope.expires_at) <= options.nowMs) {
    throw new DesiredRefusedError("expired", `the document expired at ${envelope.expires_at}`, {
      hint: "sign it anew, and compare the clocks of coordinator and node",
    });
  }
  return { envelope, payload: document };
}

/** Reads the signed form, with nothing believed yet. @throws DesiredRefusedError `malformed` */
function parseSigned(value: unknown): SignedDesired {
  const result = signedSchema.safeParse(value);
  if (result.success) return result.data;
  const places = result.error.issues.map(({ path }) => path.map(String).join(".") || "the whole");
  throw new DesiredRefusedError(
    "malformed",
    `this is no signed document of the form ${signedFormat}: ${[...new Set(places)].join(", ")}`,
    { hint: "make it with: mvm coordinator sign" },
  );
}
