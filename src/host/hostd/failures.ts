import {
  ConflictError,
  type ErrorCode,
  HostLacksError,
  MvmError,
  NotFoundError,
  NotTrustedError,
  OperationError,
  UsageError,
  describeError,
} from "../../domain/errors.ts";
import type { HostdFailure } from "../../protocol/hostd-messages.ts";

const classes: Readonly<
  Record<ErrorCode, new (message: string, options: { hint?: string }) => MvmError>
> = {
  failed: OperationError,
  usage: UsageError,
  not_found: NotFoundError,
  conflict: ConflictError,
  // Quotas are agentd's: of hostd it is a failure like any other.
  over_quota: OperationError,
  not_trusted: NotTrustedError,
  host_lacks: HostLacksError,
};

/** An error as it crosses the socket, with all that caused it in words. */
export function failureOf(error: unknown): HostdFailure {
  const known = error instanceof MvmError ? error : undefined;
  return {
    code: known?.code ?? "failed",
    message: describeError(error).slice(0, 8192),
    details: known?.hint === undefined ? {} : { hint: known.hint },
  };
}

/** The error that hostd had, of the same class as it was there. */
export function errorOf({ code, message, details: { hint } }: HostdFailure): MvmError {
  const Class = Object.hasOwn(classes, code) ? classes[code as ErrorCode] : OperationError;
  return new Class(message, hint === undefined ? {} : { hint });
}
