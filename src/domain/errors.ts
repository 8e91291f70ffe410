/** The classes of failure; each is one exit code of the command line and one error code on the wire. */
export type ErrorCode =
  | "failed"
  | "usage"
  | "not_found"
  | "conflict"
  | "over_quota"
  | "not_trusted"
  | "host_lacks";

export interface MvmErrorOptions {
  /** What the reader can do next: a command or one plain sentence. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** Base of every error that mvm raises on purpose. Anything else that is thrown is a defect. */
export class MvmError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: MvmErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
  }
}

/** An argument or a document that cannot be understood. */
export class UsageError extends MvmError {
  constructor(message: string, options: MvmErrorOptions = {}) {
    super("usage", message, options);
  }
}

/** The named object does not exist. */
export class NotFoundError extends MvmError {
  constructor(message: string, options: MvmErrorOptions = {}) {
    super("not_found", message, options);
  }
}

/** The object exists already, is busy, or its state does not allow what was asked. */
export class ConflictError extends MvmError {
  constructor(message: string, options: MvmErrorOptions = {}) {
    super("conflict", message, options);
  }
}

/** A certificate, key or signature that is not to be believed. */
export class NotTrustedError extends MvmError {
  constructor(message: string, options: MvmErrorOptions = {}) {
    super("not_trusted", message, options);
  }
}

/** This machine lacks a program, a file or a kernel feature. */
export class HostLacksError extends MvmError {
  constructor(message: string, options: MvmErrorOptions = {}) {
    super("host_lacks", message, options);
  }
}

/** An operation that was tried and failed. */
export class OperationError extends MvmError {
  constructor(message: string, options: MvmErrorOptions = {}) {
    super("failed", message, options);
  }
}

/** Causes are followed so far and not by what they say, since a cause can lead back to itself. */
const maxCauses = 5;

/** What to do next, as the error or what caused it says. */
export function hintOf(error: unknown): string | undefined {
  let current: unknown = error;
  for (let depth = 0; depth < maxCauses && current instanceof Error; depth += 1) {
    if (current instanceof MvmError && current.hint !== undefined) return current.hint;
    current = current.cause;
  }
  return undefined;
}

/** Whether an error is what a system call said, such as "no such file"; see errno(3). */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error && "code" in error;
}

/** Whether an error, or what caused it, is that a disk or a disk quota is full; see errno(3). */
export function isDiskFull(error: unknown): boolean {
  let current: unknown = error;
  for (let depth = 0; depth < maxCauses && current instanceof Error; depth += 1) {
    if (isSystemError(current) && (current.code === "ENOSPC" || current.code === "EDQUOT")) {
      return true;
    }
    current = current.cause;
  }
  return false;
}

/** One sentence for a person: the message of an error and of what caused it, outermost first. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  let current: unknown = error;
  for (let depth = 0; depth < maxCauses && current !== undefined && current !== null; depth += 1) {
    const text = current instanceof Error ? current.message : JSON.stringify(current);
    if (!parts.some((part) => part.includes(text))) parts.push(text);
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join(": ");
}
