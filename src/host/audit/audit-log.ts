import type { AuditEvent, AuditLogName } from "../../domain/audit.ts";
import { OperationError, describeError, isSystemError } from "../../domain/errors.ts";
import type { AuditEntry, AuditHead, AuditTrail, AuditVerdict } from "../../ports/audit.ts";
import type { Clock } from "../../ports/clock.ts";
import type { AuditDisk } from "./audit-disk.ts";
import {
  type HeadContent,
  type HeadSigner,
  genesisHead,
  openHead,
  sealHead,
  viewHead,
} from "./audit-head.ts";
import { type ChainPosition, maxLineBytes, openLine, sealLine } from "./audit-line.ts";
import { inspectEnd } from "./inspect-end.ts";
import { verifyLog } from "./verify-log.ts";

const settleTries = 4;
const settleMs = 250;
const longestReadBytes = 32 * 1024 * 1024;

export interface AuditLogOptions {
  readonly disk: AuditDisk;
  readonly signer: HeadSigner;
  readonly clock: Clock;
  /** Who runs the command, as each line says it. */
  readonly by: string;
}

/** The audit trail: lines that are chained by their hashes, and a signed head beside them. */
export class AuditLog implements AuditTrail {
  readonly #options: AuditLogOptions;
  /** Actions of one process run side by side under one tenant's lock; their lines come one after the other. */
  readonly #tails = new Map<AuditLogName, Promise<void>>();

  constructor(options: AuditLogOptions) {
    this.#options = options;
  }

  async append(tenant: AuditLogName, event: AuditEvent): Promise<void> {
    const before = this.#tails.get(tenant) ?? Promise.resolve();
    const mine = before.then(
      () => this.#append(tenant, event),
      () => this.#append(tenant, event),
    );
    this.#tails.set(tenant, mine);
    try {
      await mine;
    } catch (error) {
      if (!isSystemError(error)) throw error;
      throw new OperationError(
        `the audit log of ${tenant} cannot be written: ${describeError(error)}`,
        {
          cause: error,
          hint: "nothing is done that is not written down: free disk space or mend the file, and run the command again",
        },
      );
    }
  }

  async last(tenant: AuditLogName, count: number): Promise<AuditEntry[] | undefined> {
    const { disk } = this.#options;
    const size = await disk.size(tenant);
    if (size === undefined) return undefined;
    for (let length = 65_536 + count * 512; ; length *= 4) {
      const start = Math.max(0, size - length);
      const lines = (await disk.read(tenant, start, size - start)).toString("utf8").split("\n");
      const entries = lines.flatMap((text) => {
        const line = openLine(text);
        return typeof line === "string" ? [] : [line.entry];
      });
      if (entries.length >= count || start === 0 || length > longestReadBytes) {
        return entries.slice(-count);
      }
    }
  }

  async verify(tenant: AuditLogName): Promise<AuditVerdict | undefined> {
    const { disk, signer, clock } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      // The head first: a writer adds the line before it signs, so the log is never behind the head.
      const headText = await disk.readHead(tenant);
      const size = await disk.size(tenant);
      if (size === undefined && headText === undefined) return undefined;
      const verdict = await verifyLog({ disk, signer, tenant, headText, size: size ?? 0 });
      // A writer may be between its line and its head just now.
      if (!verdict.onlyUnsigned || attempt === settleTries) return verdict;
      await clock.sleep(settleMs);
    }
  }

  async head(tenant: AuditLogName): Promise<AuditHead | undefined> {
    const text = await this.#options.disk.readHead(tenant);
    if (text === undefined) return undefined;
    const head = await openHead(text, tenant, this.#options.signer);
    return typeof head === "string" ? undefined : viewHead(head);
  }

  async #append(tenant: AuditLogName, event: AuditEvent): Promise<void> {
    const { disk, signer, by } = this.#options;
    let headText = await disk.readHead(tenant);
    if (headText === undefined && ((await disk.size(tenant)) ?? 0) === 0) {
      // A head is there before the first line, so a log without one was tampered with.
      headText = await sealHead(genesisHead(tenant, this.#now()), signer);
      await disk.writeHead(tenant, headText);
    }
    const end = await inspectEnd({ disk, signer, tenant, headText });
    if (end.tornBytes > 0) await disk.truncate(tenant, end.size);
    const counts: Record<string, number> = { ...end.counts };
    let position: ChainPosition = end.position;
    let text = end.needsLineFeed ? "\n" : "";
    for (const next of [...end.events, event]) {
      const line = sealLine(position, next, by, this.#now());
      if (Buffer.byteLength(line.text) > maxLineBytes) {
        throw new OperationError(`a ${next.type} event is too long for the audit log`);
      }
      text += `${line.text}\n`;
      counts[next.type] = (counts[next.type] ?? 0) + 1;
      position = line;
    }
    await disk.append(tenant, text);
    const content: HeadContent = {
      ...genesisHead(tenant, this.#now()),
      sequence: position.sequence,
      hash: position.hash,
      size_bytes: end.size + Buffer.byteLength(text),
      counts,
    };
    await disk.writeHead(tenant, await sealHead(content, signer));
  }

  #now(): string {
    return new Date(this.#options.clock.nowMs()).toISOString();
  }
}
