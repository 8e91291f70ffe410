import type { HealthReport, HelloAnswer } from "../protocol/guest-messages.ts";
import type { TerminalSize } from "../protocol/guest-requests.ts";
import type { VmmProcess } from "./vmm.ts";

/** The terminal that a command in a guest is shown on. */
export interface ExecTerminal {
  size(): TerminalSize;
  /** Calls back whenever the size may be another. @returns what ends that. */
  onResize(listener: () => void): () => void;
}

export interface GuestExecRequest {
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly timeoutMs: number;
  readonly stdin?: AsyncIterable<Uint8Array>;
  /** Runs it on a terminal of its own in the guest, of the size of this one; all output is `stdout` then. */
  readonly terminal?: ExecTerminal;
  readonly onOutput: (stream: "stdout" | "stderr", bytes: Uint8Array) => void;
  readonly signal?: AbortSignal;
}

/** One open conversation with the agent of a guest. What it answers is bounded and checked. */
export interface GuestSession {
  /** What the agent said of itself when the session began. */
  readonly hello: HelloAnswer;
  health(): Promise<HealthReport>;
  /** Runs a command in the guest. @returns its exit code; 128 + N when signal N ended it. */
  exec(request: GuestExecRequest): Promise<number>;
  /** The last lines a service of the guest logged (or of all services), oldest first. */
  logs(service: string | undefined, lines: number): Promise<string[]>;
  /** Asks the guest to end its services and power off. Answers when the guest has begun. */
  shutdown(graceSeconds: number): Promise<void>;
  close(): void;
}

/** Opens sessions with guest agents: one at a time per guest, others wait their turn. */
export interface GuestLink {
  /** For questions, which are answered also while a command runs. @throws OperationError when the agent does not answer within `timeoutMs`. */
  open(process: VmmProcess, timeoutMs: number, signal?: AbortSignal): Promise<GuestSession>;
  /** For a command, which may take long: commands wait for each other. @throws as `open`, ConflictError when another command runs for longer. */
  openForCommand(
    process: VmmProcess,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<GuestSession>;
}
