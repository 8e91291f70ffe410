import {
  MvmError,
  describeError,
  hintOf,
  isSystemError,
  type ErrorCode,
} from "../domain/errors.ts";

const exitCodes: Readonly<Record<ErrorCode, number>> = {
  failed: 1,
  usage: 2,
  not_found: 3,
  conflict: 4,
  over_quota: 5,
  not_trusted: 6,
  host_lacks: 7,
};

/** What was to be trusted is not: a certificate, a signature, an audit log. */
export const notTrustedExitCode: number = exitCodes.not_trusted;

/** What a disk says that cannot be written is the host's trouble and no defect: what to do about it, by errno(3). */
const diskTrouble: Readonly<Record<string, string>> = {
  ENOSPC: "free some space; the same command goes on from here",
  EDQUOT: "raise the disk quota; the same command goes on from here",
  EROFS: "make the file system writable; the same command goes on from here",
  EACCES: "let root read and write there; the same command goes on from here",
  EIO: "look at the disk: dmesg; the same command goes on from here",
};

/** The host lacks something, which `mvm doctor` names. */
export const hostLacksExitCode: number = exitCodes.host_lacks;

/** A shell gives this code to what ended by Ctrl-C. */
export const interruptedExitCode = 130;

/** Why work ended early: the operator left. It comes as it is, or as the cause of an `AbortError`. */
export class InterruptedError extends Error {}

export function exitCodeOf(error: unknown): number {
  return error instanceof MvmError ? exitCodes[error.code] : 1;
}

/** The error as a person reads it: what failed and why, then what to do next. */
export function renderError(error: unknown): string {
  const interruption = findInterruption(error);
  if (interruption !== undefined) return `mvm: ${interruption.message}`;
  const trouble = isSystemError(error) ? diskTrouble[error.code ?? ""] : undefined;
  if (trouble !== undefined) return `mvm: ${describeError(error)}\n  next: ${trouble}`;
  if (!(error instanceof MvmError)) {
    const detail = error instanceof Error ? (error.stack ?? error.message) : JSON.stringify(error);
    return `mvm: this is a defect in mvm, please report it:\n${detail}`;
  }
  const hint = hintOf(error);
  return `mvm: ${describeError(error)}${hint === undefined ? "" : `\n  next: ${hint}`}`;
}

function findInterruption(error: unknown): InterruptedError | undefined {
  if (error instanceof InterruptedError) return error;
  const isAbort = error instanceof Error && error.name === "AbortError";
  return isAbort && error.cause instanceof InterruptedError ? error.cause : undefined;
}

/** stricli uses negative codes for words it does not understand. */
export function normalizeExitCode(code: number | string | null | undefined): number {
  const number = Number(code ?? 0);
  if (number >= 0) return number;
  return number === -4 || number === -5 ? 2 : 1;
}
