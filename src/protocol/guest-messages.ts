import * as z from "zod/mini";

/** The name of the virtio-serial port that host and agent speak over. */
export const agentPortName = "mvm.agent";

/** Version of the conversation between host and guest agent. */
export const guestProtocolVersion = 1;

/** The most bytes of JSON in one frame from a guest. The common limit is higher; a guest never needs it. */
export const maxGuestFrameBytes: number = 1024 * 1024;

/** The most bytes of a command's input or output in one message, before base64. */
export const maxStreamChunkBytes: number = 32 * 1024;

/** Limits of `Logs`: lines asked for, and bytes of one line; what is longer is cut. */
export const maxLogLines = 2000;
export const maxLogLineBytes = 400;

type ServiceHealth = "healthy" | "starting" | "unhealthy";

export interface ServiceReport {
  readonly name: string;
  readonly health: ServiceHealth;
  /** Why it is not healthy; at most 500 characters. */
  readonly detail: string;
}

/** Answer to `Health`: the guest is healthy when every service is; a guest without services is healthy. */
export interface HealthReport {
  readonly services: readonly ServiceReport[];
  readonly uptime_seconds: number;
  readonly memory_available_mib: number;
}

/** The guest's side of `Hello`: sent once the agent is ready to serve. */
export interface HelloAnswer {
  readonly protocol: "mvm-guest";
  readonly version: number;
  /** The host's nonce, given back; what comes before it belongs to an older session. */
  readonly nonce: string;
  readonly boot_id: string;
  readonly instance_id: string;
}

/** Answer to `Exec`, after its progress: the exit code, or 128 + N when signal N ended it. */
export interface ExecAnswer {
  readonly exit_code: number;
}

/** Answer to `Logs`: oldest first; with several services each line begins with `<service>: `. */
export interface LogsAnswer {
  readonly lines: readonly string[];
}

/** Progress of `Exec`. */
export interface ExecProgress {
  readonly stream: "stdout" | "stderr";
  /** Base64 of at most `maxStreamChunkBytes`. */
  readonly data: string;
}

/** An error of the guest: `code` is one of domain/errors.ts, or a newer one. */
export interface GuestFailure {
  readonly code: string;
  readonly message: string;
}

/** All that a guest may send: an answer, an error or progress, each for the id of a request. */
export type GuestMessage =
  | { readonly id: number; readonly ok: true; readonly result: unknown }
  | { readonly id: number; readonly error: GuestFailure }
  | { readonly id: number; readonly progress: ExecProgress };

const requestId = z.int().check(z.nonnegative());

export const guestMessageSchema: z.ZodMiniType<GuestMessage> = z.union([
  z.strictObject({ id: requestId, ok: z.literal(true), result: z.unknown() }),
  z.strictObject({
    id: requestId,
    error: z.strictObject({
      code: z.string().check(z.maxLength(64)),
      message: z.string().check(z.maxLength(2000)),
    }),
  }),
  z.strictObject({
    id: requestId,
    progress: z.strictObject({
      stream: z.enum(["stdout", "stderr"]),
      data: z.base64().check(z.maxLength(Math.ceil(maxStreamChunkBytes / 3) * 4)),
    }),
  }),
]);

export const healthReportSchema: z.ZodMiniType<HealthReport> = z.strictObject({
  services: z
    .array(
      z.strictObject({
        name: z.string().check(z.maxLength(64)),
        health: z.enum(["healthy", "starting", "unhealthy"]),
        detail: z.string().check(z.maxLength(500)),
      }),
    )
    .check(z.maxLength(64)),
  uptime_seconds: z.number().check(z.nonnegative()),
  memory_available_mib: z.number().check(z.nonnegative()),
});

export const helloAnswerSchema: z.ZodMiniType<HelloAnswer> = z.strictObject({
  protocol: z.literal("mvm-guest"),
  version: z.int(),
  nonce: z.string().check(z.maxLength(64)),
  boot_id: z.string().check(z.maxLength(64)),
  instance_id: z.string().check(z.maxLength(64)),
});

export const execAnswerSchema: z.ZodMiniType<ExecAnswer> = z.strictObject({
  exit_code: z.int().check(z.gte(0), z.lte(255)),
});

export const logsAnswerSchema: z.ZodMiniType<LogsAnswer> = z.strictObject({
  lines: z
    .array(z.string().check(z.maxLength(maxLogLineBytes + 80)))
    .check(z.maxLength(maxLogLines)),
});

/** Answer to what only needs to be acknowledged. */
export const emptyAnswerSchema: z.ZodMiniType<Record<string, never>> = z.strictObject({});
