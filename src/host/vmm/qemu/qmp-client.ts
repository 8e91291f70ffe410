import { connect, type Socket } from "node:net";
import * as z from "zod";
import { OperationError } from "../../../domain/errors.ts";

const maxLineBytes = 1024 * 1024;
const answerTimeoutMs = 10_000;

const message = z.looseObject({
  QMP: z.unknown().optional(),
  return: z.unknown().optional(),
  error: z.looseObject({ desc: z.string() }).optional(),
});

/** A QMP conversation with one QEMU process. One command at a time. Source: QEMU's qmp-spec. */
export class QmpClient {
  readonly #socket: Socket;
  #buffer = "";
  #waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void } | undefined;
  #failure: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#receive(text));
    socket.on("error", (error) => this.#fail(new OperationError("QMP failed", { cause: error })));
    socket.on("close", () => this.#fail(new OperationError("QEMU closed its QMP socket")));
  }

  /** Connects and agrees on capabilities. @throws OperationError when QEMU does not answer in 10 s. */
  static async open(path: string): Promise<QmpClient> {
    const client = new QmpClient(connect(path));
    try {
      await client.#answer("the greeting");
      await client.execute("qmp_capabilities");
    } catch (error) {
      client.close();
      throw error;
    }
    return client;
  }

  /** Runs one command. @throws OperationError when QEMU refuses it or does not answer in 10 s. */
  async execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    if (this.#failure !== undefined) throw this.#failure;
    const answer = this.#answer(command);
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    return answer;
  }

  close(): void {
    this.#socket.destroy();
  }

  async #answer(what: string): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    if (this.#failure !== undefined) throw this.#failure;
    this.#waiting = { resolve, reject };
    const timer = setTimeout(
      () => this.#fail(new OperationError(`QEMU did not answer ${what} in ${answerTimeoutMs} ms`)),
      answerTimeoutMs,
    );
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  #receive(text: string): void {
    this.#buffer += text;
    if (this.#buffer.length > maxLineBytes) {
      this.#fail(new OperationError("QEMU sent a QMP line beyond 1 MiB"));
      this.#socket.destroy();
      return;
    }
    const lines = this.#buffer.split("\n");
    this.#buffer = lines.pop() ?? "";
    lines.filter((line) => line.trim() !== "").forEach((line) => this.#handle(line));
  }

  #handle(line: string): void {
    const parsed = message.safeParse(parseJson(line));
    if (!parsed.success) {
      this.#fail(new OperationError("QEMU sent a QMP line that is not understood"));
      return;
    }
    const { QMP: greeting, return: value, error } = parsed.data;
    // What is neither greeting nor answer is an event, and none is needed here.
    if (greeting === undefined && value === undefined && error === undefined) return;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (error === undefined) waiting?.resolve(value);
    else waiting?.reject(new OperationError(`QEMU refused: ${error.desc}`));
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#waiting?.reject(this.#failure);
    this.#waiting = undefined;
  }
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
