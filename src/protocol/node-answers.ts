import * as z from "zod/mini";
import {
  ConflictError,
  HostLacksError,
  MvmError,
  type ErrorCode,
  type MvmErrorOptions,
  NotFoundError,
  NotTrustedError,
  OperationError,
  UsageError,
} from "../domain/errors.ts";

/** What a node says is wrong: a class of failure, or that this peer asks too often. */
export type WireErrorCode = ErrorCode | "rate_limited";

/** An error on the wire. `details` carries `hint`, what to do next, and `retry_after_ms` of `rate_limited`. */
export interface WireError {
  readonly code: WireErrorCode;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

/** All that a node sends: progress any number of times, then one answer or one error. */
export type NodeMessage =
  | { readonly id: number; readonly progress: unknown }
  | { readonly id: number; readonly ok: true; readonly result: unknown }
  | { readonly id: number; readonly error: WireError };

/** A node's own Hello, the result of a caller's. */
export interface HelloResult {
  readonly protocol: string;
  readonly version: number;
  readonly role: "node";
  readonly node_id: string;
  /** The version of mvm. */
  readonly mvm: string;
}

const id = z.int().check(z.gte(0));
const text = (max: number): z.ZodMiniType<string> => z.string().check(z.maxLength(max));

const messageSchema: z.ZodMiniType<NodeMessage> = z.lazy(() =>
  z.union([
    z.strictObject({ id, progress: z.unknown() }),
    z.strictObject({ id, ok: z.literal(true), result: z.unknown() }),
    z.strictObject({
      id,
      error: z.strictObject({
        code: z.enum([
          "failed",
          "usage",
          "not_found",
          "conflict",
          "over_quota",
          "not_trusted",
          "host_lacks",
          "rate_limited",
        ]),
        message: text(16_384),
        details: z.record(text(64), z.unknown()),
      }),
    }),
  ]),
);

const helloSchema: z.ZodMiniType<HelloResult> = z.lazy(() =>
  z.looseObject({
    protocol: text(64),
    version: z.int(),
    role: z.literal("node"),
    node_id: text(64),
    mvm: text(64),
  }),
);

/** @throws OperationError when a node sends what no node should. */
export function parseNodeMessage(value: unknown): NodeMessage {
  const parsed = messageSchema.safeParse(value);
  if (!parsed.success) throw new OperationError("the node sent what is no message of the protocol");
  return parsed.data;
}

/** @throws OperationError */
export function parseHelloResult(value: unknown): HelloResult {
  const parsed = helloSchema.safeParse(value);
  if (!parsed.success) throw new OperationError("the node's Hello is not of the form agreed");
  return parsed.data;
}

/** A failure as it goes over the wire. What is no MvmError is a defect, of which nobody outside hears more. */
export function wireError(error: unknown): WireError {
  if (!(error instanceof MvmError)) {
    return {
      code: "failed",
      message: "the node failed by a defect of its own; its log says more",
      details: {},
    };
  }
  const hint = findHint(error);
  return {
    code: error.code,
    message: messageOf(error).slice(0, 16_000),
    details: hint === undefined ? {} : { hint: hint.slice(0, 2000) },
  };
}

/** The failure as this side throws it, of the class that its code names. */
export function errorFromWire(where: string, { code, message, details }: WireError): MvmError {
  const hint = typeof details["hint"] === "string" ? details["hint"] : undefined;
  const options: MvmErrorOptions = hint === undefined ? {} : { hint };
  const said = `${where}: ${message}`;
  switch (code) {
    case "usage":
      return new UsageError(said, options);
    case "not_found":
      return new NotFoundError(said, options);
    case "conflict":
      return new ConflictError(said, options);
    case "over_quota":
      return new MvmError("over_quota", said, options);
    case "not_trusted":
      return new NotTrustedError(said, options);
    case "host_lacks":
      return new HostLacksError(said, options);
    case "failed":
    case "rate_limited":
      return new OperationError(said, options);
  }
}

/** The message of an error and of the errors of mvm that caused it; what a system call said stays here. */
function messageOf(error: MvmError): string {
  const inner = error.cause instanceof MvmError ? messageOf(error.cause) : undefined;
  return inner === undefined || error.message.includes(inner)
    ? error.message
    : `${error.message}: ${inner}`;
}

function findHint(error: MvmError): string | undefined {
  if (error.hint !== undefined) return error.hint;
  return error.cause instanceof MvmError ? findHint(error.cause) : undefined;
}
