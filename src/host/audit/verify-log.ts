import type { AuditLogName } from "../../domain/audit.ts";
import type { AuditProblem, AuditVerdict } from "../../ports/audit.ts";
import type { AuditDisk } from "./audit-disk.ts";
import { type HeadSigner, type StoredHead, openHead, viewHead } from "./audit-head.ts";
import {
  type AuditLine,
  type ChainPosition,
  breakOfChain,
  genesisHash,
  maxLineBytes,
  openLine,
} from "./audit-line.ts";

const chunkBytes = 1024 * 1024;
/** A log that is broken all over says so often enough. */
const maxProblems = 100;

export interface VerifyRequest {
  readonly disk: AuditDisk;
  readonly signer: HeadSigner;
  readonly tenant: AuditLogName;
  readonly headText: string | undefined;
  readonly size: number;
}

/** As a verdict; `onlyUnsigned` when all that is wrong is that the last lines are not signed yet. */
type Verified = AuditVerdict & { readonly onlyUnsigned: boolean };

/** Checks every line of a log and its head. Changes nothing. */
export async function verifyLog(request: VerifyRequest): Promise<Verified> {
  const { signer, tenant, headText } = request;
  const problems: AuditProblem[] = [];
  const head =
    headText === undefined
      ? "there is no signed head beside the log"
      : await openHead(headText, tenant, signer);
  let position: ChainPosition = { sequence: 0, hash: genesisHash };
  let number = 0;
  let named: AuditLine | undefined;
  for await (const text of linesOf(request)) {
    number += 1;
    const line = text === undefined ? "it is cut off or longer than any line" : openLine(text);
    const problem = typeof line === "string" ? line : breakOfChain(position, line);
    if (problem !== undefined) problems.push({ line: number, problem });
    if (typeof line === "string") continue;
    if (line.entry.type === "AuditBroken") {
      problems.push({
        line: number,
        problem: `when it was written the log was found damaged: ${String(line.entry.fields["cause"])}`,
      });
    }
    if (typeof head !== "string" && line.sequence === head.content.sequence) named = line;
    position = line;
  }
  const broken = problems.length > 0;
  if (typeof head === "string") problems.push({ line: null, problem: head });
  else problems.push(...headProblems(head, position, named));
  const unsigned = typeof head !== "string" && position.sequence > head.content.sequence;
  return {
    lines: number,
    head: typeof head === "string" ? null : viewHead(head),
    problems: problems.slice(0, maxProblems),
    onlyUnsigned: !broken && unsigned && problems.length === 1,
  };
}

function headProblems(
  { content, signature }: StoredHead,
  last: ChainPosition,
  named: AuditLine | undefined,
): AuditProblem[] {
  const problems: AuditProblem[] = [];
  const add = (problem: string): void => void problems.push({ line: null, problem });
  if (signature === null) {
    add("the head is not signed: this node has no key. Make one with: mvm add host");
  }
  if (last.sequence < content.sequence) {
    add(
      `the log ends with number ${last.sequence}, and the signed head names number ${content.sequence}: its end was cut off`,
    );
  } else if (content.sequence > 0 && named?.hash !== content.hash) {
    add(`number ${content.sequence} of the log is not the line that the head was signed for`);
  }
  if (last.sequence > content.sequence) {
    add(
      `numbers ${content.sequence + 1} to ${last.sequence} are not signed: their writer died, or they were added by others; the next event of this tenant records them`,
    );
  }
  return problems;
}

/** The lines of a log; undefined for one that is too long, or that does not end. */
async function* linesOf({ disk, tenant, size }: VerifyRequest): AsyncGenerator<string | undefined> {
  let rest = Buffer.alloc(0);
  let overlong = false;
  for (let offset = 0; offset < size; offset += chunkBytes) {
    const chunk = await disk.read(tenant, offset, Math.min(chunkBytes, size - offset));
    const bytes = Buffer.concat([rest, chunk]);
    let start = 0;
    for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a, start)) {
      yield overlong || end - start > maxLineBytes
        ? undefined
        : bytes.subarray(start, end).toString("utf8");
      overlong = false;
      start = end + 1;
    }
    rest = bytes.subarray(start);
    if (rest.length > maxLineBytes) {
      overlong = true;
      rest = Buffer.alloc(0);
    }
  }
  if (overlong || rest.length > 0) yield undefined;
}
