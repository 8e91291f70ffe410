import { spawn } from "node:child_process";
import type { ChildProcess, StdioPipeNamed, StdioNull } from "node:child_process";
import { writeFileSync } from "node:fs";
import { Readable } from "node:stream";
import { ConflictError, NotFoundError, OperationError } from "../domain/errors.ts";
import { maxStreamChunkBytes } from "../protocol/guest-messages.ts";
import type { ExecProgress } from "../protocol/guest-messages.ts";
import { maxConcurrentExecs } from "../protocol/guest-requests.ts";
import type {
  ExecInputRequest,
  ExecRequest,
  ExecResizeRequest,
} from "../protocol/guest-requests.ts";
import { exitCodeOf, killSession, signalGroup } from "./process-group.ts";
import {
  type GuestTerminal,
  reportDescriptor,
  onTerminal,
  readTerminal,
  resizeTerminal,
  terminalEnv,
} from "./terminal.ts";

/** How long output may still come after the program has ended, from children that keep it open. */
const lateOutputMs = 500;

/** Where progress goes: `send` says whether there is room for more, `drained` waits for it. */
export interface ProgressSink {
  send(execId: number, progress: ExecProgress): boolean;
  drained(): Promise<void>;
}

interface RunningCommand {
  readonly child: ChildProcess;
  /** Undefined without a terminal. Settles when the terminal is there, or its command has ended before. */
  readonly terminal: Promise<GuestTerminal | undefined> | undefined;
}

/** The commands that one session runs. */
export class ExecTable {
  readonly #sink: ProgressSink;
  readonly #running = new Map<number, RunningCommand>();
  #count = 0;

  constructor(sink: ProgressSink) {
    this.#sink = sink;
  }

  /** Commands that run now. */
  get size(): number {
    return this.#count;
  }

  /**
   * Runs one command to its end. @returns the exit code, or 128 + N when signal N ended it.
   * @throws ConflictError when too many run; NotFoundError when there is no such program;
   * OperationError when it does not end in time.
   */
  async run(request: ExecRequest): Promise<number> {
    if (this.#count >= maxConcurrentExecs) {
      throw new ConflictError(`${maxConcurrentExecs} commands run already`);
    }
    if (this.#running.has(request.id))
      throw new ConflictError(`request ${request.id} runs already`);
    this.#count += 1;
    try {
      return await this.#run(request);
    } finally {
      this.#running.delete(request.id);
      this.#count -= 1;
    }
  }

  /** Resolves when the program can take more. @throws ConflictError when it takes no more input. */
  async input(request: ExecInputRequest): Promise<void> {
    const stdin = this.#running.get(request.exec_id)?.child.stdin;
    if (stdin === undefined || stdin === null || !stdin.writable) {
      throw new ConflictError("the command takes no more input");
    }
    const bytes = Buffer.from(request.data, "base64");
    const room = bytes.length === 0 || stdin.write(bytes);
    if (request.end) stdin.end();
    if (room || stdin.destroyed) return;
    await new Promise<void>((resolve) => {
      stdin.once("drain", resolve);
      stdin.once("close", resolve);
    });
  }

  /** Resolves when the terminal has its new size. @throws ConflictError when the command has no terminal any more. */
  async resize(request: ExecResizeRequest): Promise<void> {
    const terminal = await this.#running.get(request.exec_id)?.terminal;
    if (terminal === undefined) throw new ConflictError("the command has no terminal");
    await resizeTerminal(terminal.device, request);
  }

  cancel(execId: number): void {
    const running = this.#running.get(execId);
    if (running !== undefined) kill(running);
  }

  /** The session is over: nobody waits for these any more. */
  cancelAll(): void {
    for (const execId of this.#running.keys()) this.cancel(execId);
  }

  async #run(request: ExecRequest): Promise<number> {
    const running = start(request);
    const { child } = running;
    this.#running.set(request.id, running);
    const { pid } = child;
    if (pid !== undefined) allowOomKill(pid);
    // A program may end before it has read its input.
    child.stdin?.on("error", () => undefined);

    let lastOutputMs = 0;
    let paused = 0;
    const forward = (stream: "stdout" | "stderr"): void => {
      const output = child[stream];
      output?.on("data", (chunk: Buffer) => {
        lastOutputMs = performance.now();
        if (this.#send(request.id, stream, chunk)) return;
        paused += 1;
        void this.#pauseUntilDrained(output).finally(() => (paused -= 1));
      });
    };
    forward("stdout");
    forward("stderr");

    const { promise, resolve, reject } = Promise.withResolvers<number>();
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      kill(running);
    }, request.timeout_ms);
    let late: NodeJS.Timeout | undefined;
    child.once("error", (error: NodeJS.ErrnoException) => {
      if (pid !== undefined) return;
      const options = { cause: error };
      reject(
        error.code === "ENOENT"
          ? new NotFoundError(
              `the guest has no program ${request.command[0]}, or no folder ${request.cwd}`,
            )
          : new OperationError(`cannot start ${request.command[0]}`, options),
      );
    });
    child.once("exit", () => {
      late = setInterval(() => {
        if (paused > 0 || performance.now() - lastOutputMs < lateOutputMs) return;
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, lateOutputMs);
    });
    child.once("close", (code, signal) => {
      if (timedOut) {
        reject(new OperationError(`the command did not end within ${request.timeout_ms} ms`));
      } else resolve(exitCodeOf(code, signal));
    });
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      clearInterval(late);
    }
  }

  /** Backpressure: what the host does not take yet stays in the program's pipe. */
  async #pauseUntilDrained(output: Readable): Promise<void> {
    output.pause();
    await this.#sink.drained();
    output.resume();
  }

  #send(execId: number, stream: "stdout" | "stderr", chunk: Buffer): boolean {
    let room = true;
    for (let start = 0; start < chunk.length; start += maxStreamChunkBytes) {
      const data = chunk.toString("base64", start, start + maxStreamChunkBytes);
      room = this.#sink.send(execId, { stream, data });
    }
    return room;
  }
}

/** Starts a command in a process group of its own, on pipes or on a terminal. */
function start(request: ExecRequest): RunningCommand {
  const env: Readonly<Record<string, string>> = {
    PATH: "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin",
    HOME: "/root",
    TERM: "dumb",
    ...request.env,
    ...(request.terminal === undefined ? {} : terminalEnv),
  };
  const { command, cwd, terminal: size } = request;
  const [program = "", ...args] =
    size === undefined ? command : onTerminal(command, size, { cwd, env });
  // At a terminal nobody may type, but it has not ended as an empty input has.
  const stdin = request.input || size !== undefined ? "pipe" : "ignore";
  const stdio: (StdioNull | StdioPipeNamed)[] = [stdin, "pipe", "pipe"];
  if (size !== undefined) stdio[reportDescriptor] = "pipe";
  const child: ChildProcess = spawn(program, args, { cwd, env, stdio, detached: true });
  const report = child.stdio[reportDescriptor];
  return { child, terminal: report instanceof Readable ? readTerminal(report) : undefined };
}

/** Kills a command with all that is in its process group or on its terminal. */
function kill({ child, terminal }: RunningCommand): void {
  if (child.pid === undefined) return;
  signalGroup(child.pid, "SIGKILL");
  // Without its terminal most of it ends by SIGHUP; what ignores that ends by this.
  void terminal?.then((found) => found !== undefined && killSession(found.sessionId));
}

/** The agent protects itself from the OOM killer; what it starts must not inherit that. */
function allowOomKill(pid: number): void {
  if (process.getuid?.() !== 0) return;
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, "500");
  } catch (error) {
    if (!["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}
