import * as z from "zod";
import type { AuditHead } from "../../ports/audit.ts";
import { genesisHash } from "./audit-line.ts";

/** Signs with the node's key, and checks what was signed with it. */
export interface HeadSigner {
  /** Undefined on a node that has no key yet. */
  sign(text: string): Promise<HeadSignature | undefined>;
  /** @returns what is wrong with a signature, in words, or undefined. */
  check(text: string, signature: HeadSignature): Promise<string | undefined>;
}

export interface HeadSignature {
  /** The certificate of the key, PEM: a key is renewed, and what it signed stays. */
  readonly certificate: string;
  /** Base64. */
  readonly signature: string;
}

/** What a head says. */
export interface HeadContent {
  readonly format: "mvm-audit-head/1";
  readonly tenant_id: string;
  readonly sequence: number;
  readonly hash: string;
  /** Length of the log when this was its head. */
  readonly size_bytes: number;
  /** Lines so far, by their type. */
  readonly counts: Readonly<Record<string, number>>;
  readonly signed_at: string;
}

export interface StoredHead {
  readonly content: HeadContent;
  readonly signature: HeadSignature | null;
}

const storedSchema: z.ZodType<StoredHead> = z.strictObject({
  content: z.strictObject({
    format: z.literal("mvm-audit-head/1"),
    tenant_id: z.string(),
    sequence: z.number().int().nonnegative(),
    hash: z.string().regex(/^[0-9a-f]{64}$/),
    size_bytes: z.number().int().nonnegative(),
    counts: z.record(z.string(), z.number().int().nonnegative()),
    signed_at: z.string(),
  }),
  signature: z
    .strictObject({ certificate: z.string().max(65_536), signature: z.string().max(8192) })
    .nullable(),
});

/** The head of a log that has no line yet. */
export function genesisHead(tenantId: string, now: string): HeadContent {
  return {
    format: "mvm-audit-head/1",
    tenant_id: tenantId,
    sequence: 0,
    hash: genesisHash,
    size_bytes: 0,
    counts: {},
    signed_at: now,
  };
}

/** A head as its file holds it, signed where the node has a key. */
export async function sealHead(content: HeadContent, signer: HeadSigner): Promise<string> {
  const signature = (await signer.sign(JSON.stringify(content))) ?? null;
  return `${JSON.stringify({ content, signature } satisfies StoredHead)}\n`;
}

/** Reads a head and checks whose it is and its signature. @returns what is wrong with it, in words, when something is. */
export async function openHead(
  text: string,
  tenantId: string,
  signer: HeadSigner,
): Promise<StoredHead | string> {
  const parsed = storedSchema.safeParse(parseJson(text));
  if (!parsed.success) return "the signed head cannot be read";
  const { content, signature } = parsed.data;
  if (content.tenant_id !== tenantId) return `the signed head is that of ${content.tenant_id}`;
  if (signature === null) return parsed.data;
  const problem = await signer.check(JSON.stringify(content), signature);
  return problem === undefined ? parsed.data : `the signed head is not to be trusted: ${problem}`;
}

/** A head as others see it. */
export function viewHead({ content, signature }: StoredHead): AuditHead {
  const { sequence, hash, signed_at, counts } = content;
  return { sequence, hash, signed_at, signed: signature !== null, counts };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
