import type { AuditEvent, AuditLogName } from "../domain/audit.ts";

/** One line of an audit log as it was read; a newer mvm may have written types and fields that this one does not know. */
export interface AuditEntry {
  /** Counts the lines of the log from 1. */
  readonly sequence: number;
  readonly at: string;
  /** Who ran the command that did it. */
  readonly by: string;
  readonly type: string;
  readonly object: string;
  /** What else the line says. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** The last line of a log, as its signature covers it. */
export interface AuditHead {
  readonly sequence: number;
  /** SHA-256 in hex of the last line; it covers all lines before it. */
  readonly hash: string;
  readonly signed_at: string;
  /** False on a node without a key. */
  readonly signed: boolean;
  /** How many lines of each type there are. */
  readonly counts: Readonly<Record<string, number>>;
}

export interface AuditProblem {
  /** Line of the file, from 1, where the problem is one of a line. */
  readonly line: number | null;
  readonly problem: string;
}

export interface AuditVerdict {
  readonly lines: number;
  readonly head: AuditHead | null;
  /** Empty when every line is what was written, in order, and none is missing. */
  readonly problems: readonly AuditProblem[];
}

/**
 * The append-only, hash-chained logs of what happened to each tenant and to the node. A tenant's outlives
 * it: one of the same id goes on with it.
 */
export interface AuditTrail {
  /** Adds a line, durably, and signs the new head. The caller holds the tenant's lock, or the node lock for the node's log. What a writer that died left is repaired, and recorded, first. @throws OperationError when it cannot be written. */
  append(log: AuditLogName, event: AuditEvent): Promise<void>;
  /** The last `count` lines that can be read, oldest first; undefined when there is no log. */
  last(log: AuditLogName, count: number): Promise<AuditEntry[] | undefined>;
  /** Checks every line and the head; changes nothing. Undefined when there is no log. */
  verify(log: AuditLogName): Promise<AuditVerdict | undefined>;
  head(log: AuditLogName): Promise<AuditHead | undefined>;
}
