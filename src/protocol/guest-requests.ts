import * as z from "zod/mini";
import { UsageError } from "../domain/errors.ts";
import { maxLogLines, maxStreamChunkBytes } from "./guest-messages.ts";

/** Limits of one `Exec`. */
const maxExecTimeoutMs = 24 * 60 * 60 * 1000;
export const maxConcurrentExecs = 8;

/** First of a session: ends what an older session left, and is answered with the nonce. */
export interface HelloRequest {
  readonly id: number;
  readonly op: "Hello";
  readonly protocol: "mvm-guest";
  readonly version: number;
  readonly role: "host";
  /** 32 hexadecimal digits, never used before. */
  readonly nonce: string;
}

/** Runs a program as root. Its output comes as progress, its exit code as the answer. */
export interface ExecRequest {
  readonly id: number;
  readonly op: "Exec";
  readonly command: readonly string[];
  /** Added to PATH, HOME and TERM. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly timeout_ms: number;
  /** Whether `ExecInput` will follow; without it standard input is empty, or a terminal at which nobody types. */
  readonly input: boolean;
  /** Runs it on a terminal of its own: what it prints, errors too, comes as `stdout`. Left out: on pipes. */
  readonly terminal?: TerminalSize | undefined;
}

/** Rows and columns of characters. */
export interface TerminalSize {
  readonly rows: number;
  readonly cols: number;
}

/** The next bytes of standard input; answered when the program can take more. */
export interface ExecInputRequest {
  readonly id: number;
  readonly op: "ExecInput";
  readonly exec_id: number;
  /** Base64 of at most `maxStreamChunkBytes`. */
  readonly data: string;
  readonly end: boolean;
}

/** A new size for the terminal of a running `Exec`; answered when its programs have been told. */
export interface ExecResizeRequest extends TerminalSize {
  readonly id: number;
  readonly op: "ExecResize";
  readonly exec_id: number;
}

/** Kills the process group of a running `Exec`, or all on its terminal, which is answered as for a program that was killed. */
interface ExecCancelRequest {
  readonly id: number;
  readonly op: "ExecCancel";
  readonly exec_id: number;
}

interface LogsRequest {
  readonly id: number;
  readonly op: "Logs";
  /** Null for all services. */
  readonly service: string | null;
  readonly lines: number;
}

/** Ends the services and powers off; answered when that has begun. */
interface ShutdownRequest {
  readonly id: number;
  readonly op: "Shutdown";
  readonly grace_seconds: number;
}

/** All that a host may ask of a guest agent. The table is closed: an unknown one is an error. */
export type GuestRequest =
  | HelloRequest
  | { readonly id: number; readonly op: "Ping" }
  | { readonly id: number; readonly op: "Health" }
  | ExecRequest
  | ExecInputRequest
  | ExecResizeRequest
  | ExecCancelRequest
  | LogsRequest
  | ShutdownRequest;

const id = z.int().check(z.nonnegative());
const text = z.string().check(z.maxLength(64 * 1024));

/** The kernel keeps each in 16 bits (tty_ioctl(2), TIOCSWINSZ); a terminal of size 0 has no size. */
const cells = z.int().check(z.gte(1), z.lte(65_535));
const terminalSize = { rows: cells, cols: cells };

const hello = z.strictObject({
  id,
  op: z.literal("Hello"),
  protocol: z.literal("mvm-guest"),
  version: z.int(),
  role: z.literal("host"),
  nonce: z.string().check(z.regex(/^[0-9a-f]{32}$/)),
});
const ping = z.strictObject({ id, op: z.literal("Ping") });
const health = z.strictObject({ id, op: z.literal("Health") });
const exec = z.strictObject({
  id,
  op: z.literal("Exec"),
  command: z.array(text).check(z.minLength(1), z.maxLength(1024)),
  env: z.record(z.string().check(z.maxLength(256)), text),
  cwd: z.string().check(z.maxLength(4096)),
  timeout_ms: z.int().check(z.gte(1), z.lte(maxExecTimeoutMs)),
  input: z.boolean(),
  // Not sent when there is none: an image may be older than the node that speaks to it.
  terminal: z.optional(z.strictObject(terminalSize)),
});
const execInput = z.strictObject({
  id,
  op: z.literal("ExecInput"),
  exec_id: id,
  // Base64, but not checked for it: Buffer takes any text, and the check costs more than the rest.
  data: z.string().check(z.maxLength(Math.ceil(maxStreamChunkBytes / 3) * 4)),
  end: z.boolean(),
});
const execResize = z.strictObject({
  id,
  op: z.literal("ExecResize"),
  exec_id: id,
  ...terminalSize,
});
const execCancel = z.strictObject({ id, op: z.literal("ExecCancel"), exec_id: id });
const logs = z.strictObject({
  id,
  op: z.literal("Logs"),
  service: z.nullable(z.string().check(z.maxLength(64))),
  lines: z.int().check(z.gte(1), z.lte(maxLogLines)),
});
const shutdown = z.strictObject({
  id,
  op: z.literal("Shutdown"),
  grace_seconds: z.number().check(z.gte(0), z.lte(3600)),
});

const schemas: Readonly<Record<GuestRequest["op"], z.ZodMiniType<GuestRequest>>> = {
  Hello: hello,
  Ping: ping,
  Health: health,
  Exec: exec,
  ExecInput: execInput,
  ExecResize: execResize,
  ExecCancel: execCancel,
  Logs: logs,
  Shutdown: shutdown,
};

const envelope = z.looseObject({ id, op: z.string().check(z.maxLength(64)) });

/** The id of what looks like a request, or undefined: an error can be answered only to an id. */
export function requestIdOf(value: unknown): number | undefined {
  const parsed = envelope.safeParse(value);
  return parsed.success ? parsed.data.id : undefined;
}

/** @throws UsageError naming the unknown operation, or the field that is missing, wrong or unknown. */
export function parseGuestRequest(value: unknown): GuestRequest {
  const head = envelope.safeParse(value);
  if (!head.success) throw new UsageError("a request has an id and an op");
  const { op } = head.data;
  if (!Object.hasOwn(schemas, op)) throw new UsageError(`unknown operation ${JSON.stringify(op)}`);
  const parsed = schemas[op as GuestRequest["op"]].safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const keys = issue?.code === "unrecognized_keys" ? issue.keys.join(", ") : "";
  const field = [issue?.path.join("."), keys].filter((part) => part !== "").join(" ");
  throw new UsageError(`${op}: ${issue?.code ?? "invalid"} ${field}`.trim().slice(0, 500));
}
