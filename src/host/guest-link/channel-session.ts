import type { Duplex } from "node:stream";
import { ConflictError, MvmError, OperationError } from "../../domain/errors.ts";
import type { ExecTerminal, GuestExecRequest, GuestSession } from "../../ports/guest-link.ts";
import {
  emptyAnswerSchema,
  execAnswerSchema,
  healthReportSchema,
  logsAnswerSchema,
  maxLogLines,
  maxStreamChunkBytes,
} from "../../protocol/guest-messages.ts";
import type { ExecProgress, HealthReport, HelloAnswer } from "../../protocol/guest-messages.ts";
import { plainLine } from "../../protocol/plain-text.ts";
import type { Greeting } from "./hello.ts";
import { execAnswerGraceMs, keepAliveMs, minOutputCostBytes } from "./limits.ts";
import type { GuestLinkLimits } from "./limits.ts";
import { SharedSession } from "./shared-session.ts";
import { GuestRequests } from "./requests.ts";

/** One conversation with a guest agent, from its `Hello` until either side closes. */
export class ChannelSession implements GuestSession {
  readonly hello: HelloAnswer;
  readonly #limits: GuestLinkLimits;
  readonly #requests: GuestRequests;
  #shared: SharedSession | undefined;

  constructor(channel: Duplex, greeting: Greeting, limits: GuestLinkLimits, onEnd: () => void) {
    this.hello = greeting.hello;
    this.#limits = limits;
    this.#requests = new GuestRequests(channel, limits, () => {
      this.#shared?.end();
      onEnd();
    });
    this.#requests.begin(greeting.rest);
  }

  /** Lets others ask the guest at a socket through this session until it ends. @throws OperationError */
  async share(path: string): Promise<void> {
    this.#shared = await SharedSession.begin(path, this.hello, this.#requests, this.#limits);
  }

  async health(): Promise<HealthReport> {
    const report = await this.#requests.start(
      { op: "Health" },
      { schema: healthReportSchema, timeoutMs: this.#limits.healthTimeoutMs },
    ).answer;
    const services = report.services.map((service) => ({
      name: plainLine(service.name),
      health: service.health,
      detail: plainLine(service.detail),
    }));
    return { ...report, services };
  }

  async exec(request: GuestExecRequest): Promise<number> {
    let outputBytes = 0;
    const onProgress = (progress: ExecProgress): void => {
      const bytes = Buffer.from(progress.data, "base64");
      outputBytes += Math.max(bytes.length, minOutputCostBytes);
      if (outputBytes > this.#limits.maxExecOutputBytes) {
        throw new OperationError(
          `the command printed more than ${this.#limits.maxExecOutputBytes} bytes`,
        );
      }
      request.onOutput(progress.stream, bytes);
    };
    const exec = this.#requests.start(
      {
        op: "Exec",
        command: request.command,
        env: request.env ?? {},
        cwd: request.cwd ?? "/",
        timeout_ms: request.timeoutMs,
        input: request.stdin !== undefined,
        ...(request.terminal === undefined ? {} : { terminal: request.terminal.size() }),
      },
      { schema: execAnswerSchema, timeoutMs: request.timeoutMs + execAnswerGraceMs, onProgress },
    );
    const interrupted = Promise.withResolvers<never>();
    const onAbort = (): void => {
      this.#cancel(exec.id);
      interrupted.reject(new OperationError("the command was interrupted"));
    };
    request.signal?.addEventListener("abort", onAbort, { once: true });
    if (request.signal?.aborted === true) onAbort();
    const done = new AbortController();
    const input =
      request.stdin === undefined
        ? Promise.resolve()
        : this.#sendInput(exec.id, request, request.stdin, done.signal).catch((error: unknown) => {
            this.#cancel(exec.id);
            interrupted.reject(error);
          });
    // Whichever comes second must not be an unhandled rejection.
    exec.answer.catch(() => undefined);
    interrupted.promise.catch(() => undefined);
    void input;
    const stopResizing = this.#followSize(exec.id, request.terminal);
    // A QEMU channel does not tell that the agent died; the next agent refuses a Ping without Hello.
    const keepAlive = setInterval(() => {
      this.ping().catch((error: unknown) =>
        this.#requests.end(new OperationError("the guest agent was lost", { cause: error })),
      );
    }, keepAliveMs);
    try {
      return (await Promise.race([exec.answer, interrupted.promise])).exit_code;
    } finally {
      clearInterval(keepAlive);
      stopResizing();
      done.abort();
      request.signal?.removeEventListener("abort", onAbort);
    }
  }

  async logs(service: string | undefined, lines: number): Promise<string[]> {
    const answer = await this.#requests.start(
      { op: "Logs", service: service ?? null, lines: Math.min(lines, maxLogLines) },
      { schema: logsAnswerSchema, timeoutMs: this.#limits.requestTimeoutMs },
    ).answer;
    return answer.lines.slice(-lines).map(plainLine);
  }

  async shutdown(graceSeconds: number): Promise<void> {
    await this.#ask({ op: "Shutdown", grace_seconds: graceSeconds });
  }

  /** @throws OperationError when the agent does not answer. */
  async ping(): Promise<void> {
    await this.#ask({ op: "Ping" });
  }

  /** Those who ask through this session have their answers first. */
  close(): void {
    const end = (): void => this.#requests.end(new OperationError("the session was closed"));
    if (this.#shared === undefined) end();
    else void this.#shared.finish().then(end);
  }

  #cancel(execId: number): void {
    // The session may be over already, and then so is the command.
    this.#ask({ op: "ExecCancel", exec_id: execId }).catch((error: unknown) => {
      if (!(error instanceof MvmError)) throw error;
    });
  }

  async #ask(body: Parameters<GuestRequests["start"]>[0]): Promise<void> {
    const timeoutMs = this.#limits.requestTimeoutMs;
    await this.#requests.start(body, { schema: emptyAnswerSchema, timeoutMs }).answer;
  }

  /** Passes new sizes of a terminal on, one at a time and only the last of many. @returns what ends that. */
  #followSize(execId: number, terminal: ExecTerminal | undefined): () => void {
    if (terminal === undefined) return () => undefined;
    let sending = false;
    let changed = false;
    const send = async (): Promise<void> => {
      changed = true;
      if (sending) return;
      sending = true;
      while (changed) {
        changed = false;
        try {
          await this.#ask({ op: "ExecResize", exec_id: execId, ...terminal.size() });
        } catch (error) {
          // The command has ended, or the session: then its own answer says so.
          if (!(error instanceof MvmError)) throw error;
        }
      }
      sending = false;
    };
    return terminal.onResize(() => void send());
  }

  /** Sends input chunk by chunk, each after the guest took the one before. */
  async #sendInput(
    execId: number,
    exec: GuestExecRequest,
    stdin: AsyncIterable<Uint8Array>,
    done: AbortSignal,
  ): Promise<void> {
    const send = async (data: string, end: boolean): Promise<boolean> => {
      if (done.aborted) return false;
      // A program may be slow to read for as long as it runs, so its own time limit counts.
      const timeoutMs = exec.timeoutMs + execAnswerGraceMs;
      const request = { op: "ExecInput", exec_id: execId, data, end } as const;
      try {
        await this.#requests.start(request, { schema: emptyAnswerSchema, timeoutMs }).answer;
        return true;
      } catch (error) {
        // The program ended, or closed its input: what is left has no reader.
        if (error instanceof ConflictError || done.aborted) return false;
        throw error;
      }
    };
    for await (const chunk of takeUntil(stdin, done)) {
      const bytes = Buffer.from(chunk);
      for (let start = 0; start < bytes.length; start += maxStreamChunkBytes) {
        if (!(await send(bytes.toString("base64", start, start + maxStreamChunkBytes), false)))
          return;
      }
    }
    await send("", true);
  }
}

/** What comes of `source` until `done`: what is still to come then may never come, as from a terminal. */
async function* takeUntil<T>(
  source: AsyncIterable<T>,
  done: AbortSignal,
): AsyncGenerator<T, void, undefined> {
  const iterator = source[Symbol.asyncIterator]();
  const ended = Promise.withResolvers<undefined>();
  const onDone = (): void => ended.resolve(undefined);
  done.addEventListener("abort", onDone, { once: true });
  if (done.aborted) onDone();
  try {
    for (;;) {
      const result = await Promise.race([iterator.next(), ended.promise]);
      if (result === undefined || result.done === true) return;
      yield result.value;
    }
  } finally {
    done.removeEventListener("abort", onDone);
    // Not awaited: a generator that waits for its next chunk returns only when that has come. How it
    // ends concerns nobody then: the command has its exit code.
    iterator.return?.().catch(() => undefined);
  }
}
