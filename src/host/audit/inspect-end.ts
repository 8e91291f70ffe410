import type { AuditEvent } from "../../domain/audit.ts";
import type { AuditLogName } from "../../domain/audit.ts";
import type { AuditDisk } from "./audit-disk.ts";
import { type HeadSigner, type StoredHead, openHead } from "./audit-head.ts";
import {
  type ChainPosition,
  breakOfChain,
  genesisHash,
  maxLineBytes,
  openLine,
} from "./audit-line.ts";

/** More lines than one writer can leave without a head, by far; what is beyond is not read. */
const longestTailBytes = 4 * maxLineBytes;

export interface EndRequest {
  readonly disk: AuditDisk;
  readonly signer: HeadSigner;
  readonly tenant: AuditLogName;
  readonly headText: string | undefined;
}

/** How a log ends, and how it goes on. */
export interface LogEnd {
  /** The line that the next one follows. */
  readonly position: ChainPosition;
  readonly counts: Readonly<Record<string, number>>;
  /** Length of the log without `tornBytes` of a half-written last line. */
  readonly size: number;
  readonly tornBytes: number;
  /** The log ends within a line that must stay as it is. */
  readonly needsLineFeed: boolean;
  /** What is to be written down of it before anything else. */
  readonly events: readonly AuditEvent[];
}

/**
 * Looks how a log ends before a line is added. A writer that died leaves a torn line, or lines that
 * no head covers yet: they are taken over, and that is written down. Anything else was done to the
 * log by others: that is written down too, and the chain goes on from the signed head, so that the
 * damage stays to be seen.
 */
export async function inspectEnd(request: EndRequest): Promise<LogEnd> {
  const { disk, signer, tenant, headText } = request;
  const size = (await disk.size(tenant)) ?? 0;
  const head = headText === undefined ? "it has no head" : await openHead(headText, tenant, signer);
  if (typeof head === "string") {
    const { position, endsInLine } = await lastReadable(request, size);
    return brokenEnd(request, { position, counts: {}, size }, endsInLine, head);
  }
  const { content } = head;
  const covered = { position: content, counts: content.counts, size };
  if (size < content.size_bytes) {
    const cause = `it ends at byte ${size} of ${content.size_bytes}: its end was cut off`;
    return brokenEnd(request, covered, await endsInLine(request, size), cause);
  }
  const changed = await lastSignedLineProblem(request, head);
  if (changed !== undefined) {
    return brokenEnd(request, covered, await endsInLine(request, size), changed);
  }
  return endAfterHead(request, head, size);
}

/** What is wrong with the line that the head names, or undefined. */
async function lastSignedLineProblem(
  { disk, tenant }: EndRequest,
  { content }: StoredHead,
): Promise<string | undefined> {
  if (content.sequence === 0) return undefined;
  const start = Math.max(0, content.size_bytes - maxLineBytes - 1);
  const bytes = await disk.read(tenant, start, content.size_bytes - start);
  const text = bytes.toString("utf8");
  const line = openLine(text.trimEnd().split("\n").at(-1) ?? "");
  if (text.endsWith("\n") && typeof line !== "string" && line.hash === content.hash) {
    return undefined;
  }
  return `line ${content.sequence}, which the head names, is not where and what it was`;
}

/** Takes over what a writer left after the head. */
async function endAfterHead(
  request: EndRequest,
  { content, signature }: StoredHead,
  size: number,
): Promise<LogEnd> {
  const { disk, signer, tenant } = request;
  const length = Math.min(size - content.size_bytes, longestTailBytes);
  const bytes = await disk.read(tenant, content.size_bytes, length);
  const wholeBytes = bytes.lastIndexOf(0x0a) + 1;
  const tornBytes = bytes.length - wholeBytes;
  const counts: Record<string, number> = { ...content.counts };
  let position: ChainPosition = content;
  let lines = 0;
  const texts = bytes.subarray(0, wholeBytes).toString("utf8").split("\n").slice(0, -1);
  for (const text of texts) {
    const line = openLine(text);
    const problem = typeof line === "string" ? line : breakOfChain(position, line);
    if (typeof line === "string" || problem !== undefined) {
      const cause = `the line after number ${position.sequence}: ${problem ?? "it is none"}`;
      return brokenEnd(request, { position, counts, size }, await endsInLine(request, size), cause);
    }
    counts[line.entry.type] = (counts[line.entry.type] ?? 0) + 1;
    position = line;
    lines += 1;
  }
  if (size - content.size_bytes > longestTailBytes) {
    const cause = `${size - content.size_bytes} bytes follow the signed lines`;
    return brokenEnd(request, { position, counts, size }, await endsInLine(request, size), cause);
  }
  // A node that has got its key since signs what was there before; that is worth a line.
  const nowSigned = signature === null && (await signer.sign("")) !== undefined;
  const unsigned = lines + (nowSigned ? content.sequence : 0);
  const events: AuditEvent[] =
    unsigned > 0 || tornBytes > 0
      ? [{ type: "AuditRecovered", object: tenant, lines: unsigned, torn_bytes: tornBytes }]
      : [];
  return { position, counts, size: size - tornBytes, tornBytes, needsLineFeed: false, events };
}

function brokenEnd(
  { tenant }: EndRequest,
  end: Pick<LogEnd, "position" | "counts" | "size">,
  needsLineFeed: boolean,
  cause: string,
): LogEnd {
  const events: AuditEvent[] = [{ type: "AuditBroken", object: tenant, cause }];
  return { ...end, tornBytes: 0, needsLineFeed, events };
}

/** The last line that can be read, where there is no head to go on from. */
async function lastReadable(
  request: EndRequest,
  size: number,
): Promise<{ position: ChainPosition; endsInLine: boolean }> {
  const start = Math.max(0, size - maxLineBytes * 2);
  const bytes = await request.disk.read(request.tenant, start, size - start);
  const lines = bytes
    .toString("utf8")
    .split("\n")
    .map((text) => openLine(text))
    .filter((line) => typeof line !== "string");
  return {
    position: lines.at(-1) ?? { sequence: 0, hash: genesisHash },
    endsInLine: bytes.length > 0 && bytes.at(-1) !== 0x0a,
  };
}

async function endsInLine({ disk, tenant }: EndRequest, size: number): Promise<boolean> {
  return size > 0 && (await disk.read(tenant, size - 1, 1)).at(0) !== 0x0a;
}
