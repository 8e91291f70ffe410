import { createHash } from "node:crypto";
import * as z from "zod";
import type { AuditEvent } from "../../domain/audit.ts";
import { plainLine } from "../../protocol/plain-text.ts";
import type { AuditEntry } from "../../ports/audit.ts";

/** What comes before the first line. */
export const genesisHash: string = "0".repeat(64);
/** A longer line is none of ours. */
export const maxLineBytes = 65_536;
const maxTextLength = 2000;
const maxListLength = 100;
const maxNameLength = 128;

/** Where the chain stands: the last line's number and hash. */
export interface ChainPosition {
  readonly sequence: number;
  readonly hash: string;
}

export interface AuditLine extends ChainPosition {
  readonly previous: string;
  readonly entry: AuditEntry;
}

const lineSchema = z.looseObject({
  sequence: z.number().int().positive(),
  at: z.string(),
  by: z.string(),
  type: z.string(),
  object: z.string(),
  previous: z.string(),
  hash: z.string(),
});
const sealedLine = /^(\{.*),"hash":"([0-9a-f]{64})"\}$/;

/** Writes an event as the line after `position`, without its line feed. The hash covers every other byte of the line. */
export function sealLine(
  position: ChainPosition,
  event: AuditEvent,
  by: string,
  at: string,
): AuditLine & { readonly text: string } {
  const { type, object, ...rest } = event;
  const sequence = position.sequence + 1;
  const fields = Object.fromEntries(
    Object.entries(rest).map(([name, value]) => [name, bounded(value)]),
  );
  const body = JSON.stringify({
    sequence,
    at,
    by,
    type,
    object,
    ...fields,
    previous: position.hash,
  });
  const hash = hashOf(body);
  const entry = { sequence, at, by, type, object, fields };
  return {
    sequence,
    hash,
    previous: position.hash,
    entry,
    text: `${body.slice(0, -1)},"hash":"${hash}"}`,
  };
}

/** Reads a line and checks its own hash. @returns what is wrong with it, in words, when something is. */
export function openLine(text: string): AuditLine | string {
  const match = sealedLine.exec(text);
  const [, body, hash] = match ?? [];
  if (body === undefined || hash === undefined) return "it is no line of an audit log";
  if (hashOf(`${body}}`) !== hash) return "its hash does not fit its content: it was changed";
  const parsed = lineSchema.safeParse(parseJson(text));
  if (!parsed.success) return "it is no line of an audit log";
  const { sequence, at, by, type, object, previous, hash: _, ...fields } = parsed.data;
  return { sequence, hash, previous, entry: { sequence, at, by, type, object, fields } };
}

/** What is wrong with a line that comes after `position`, or undefined. */
export function breakOfChain(position: ChainPosition, line: AuditLine): string | undefined {
  const expected = position.sequence + 1;
  if (line.sequence > expected) {
    const missing = line.sequence - 1;
    const range =
      missing === expected ? `line ${expected} is` : `lines ${expected} to ${missing} are`;
    return `it is number ${line.sequence} of the log: ${range} missing before it`;
  }
  if (line.sequence < expected) {
    return `it is number ${line.sequence} of the log and stands where number ${expected} belongs`;
  }
  if (line.previous !== position.hash)
    return "it does not follow the line before it: one was exchanged";
  return undefined;
}

/** Guests and programs have a part in causes: they are cut to a size, and a terminal must not obey them. */
function bounded(value: unknown): unknown {
  if (typeof value === "string") return plainLine(value).slice(0, maxTextLength);
  if (Array.isArray(value)) {
    return value
      .slice(0, maxListLength)
      .map((item) => plainLine(String(item)).slice(0, maxNameLength));
  }
  return value;
}

function hashOf(body: string): string {
  return createHash("sha256").update(body).digest("hex");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
