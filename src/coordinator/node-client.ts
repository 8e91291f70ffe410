import { ConflictError, MvmError, OperationError, UsageError } from "../domain/errors.ts";
import { pause } from "../ports/pause.ts";
import type { Connection, FrameChannel, Peer } from "../ports/transport.ts";
import {
  type HelloResult,
  errorFromWire,
  parseHelloResult,
  parseNodeMessage,
} from "../protocol/node-answers.ts";
import {
  type NodeOperation,
  type NodeParameters,
  nodeProtocol,
  nodeProtocolVersion,
} from "../protocol/node-requests.ts";

const maxRateWaits = 20;
const longestRateWaitMs = 30_000;

export interface CallOptions {
  readonly signal: AbortSignal;
  /** Hears what a long request says on its way. */
  readonly onProgress?: (progress: unknown) => void;
}

/** Asks one node, over a connection that is its own. */
export class NodeClient {
  readonly #connection: Connection;
  readonly #role: string;
  #hello: Promise<HelloResult> | undefined;
  #lastId = 0;

  /** @param role what this side's certificate says it is. */
  constructor(connection: Connection, role: Peer["role"]) {
    this.#connection = connection;
    this.#role = role;
  }

  get peer(): Peer {
    return this.#connection.peer;
  }

  /** What the node says of itself; asked once. @throws ConflictError when the versions do not fit. */
  async hello(signal: AbortSignal): Promise<HelloResult> {
    this.#hello ??= this.#greet(signal);
    return this.#hello;
  }

  /**
   * Asks for an operation, and again when the node says that it was asked too often.
   * @throws the error that the node answers, or OperationError when it answers none.
   */
  async call<Op extends NodeOperation>(
    op: Op,
    parameters: NodeParameters[Op],
    options: CallOptions,
  ): Promise<unknown> {
    await this.hello(options.signal);
    return this.#ask(() => {
      this.#lastId += 1;
      return { ...parameters, id: this.#lastId, op };
    }, options);
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }

  async #greet(signal: AbortSignal): Promise<HelloResult> {
    const hello = {
      id: 0,
      op: "Hello",
      protocol: nodeProtocol,
      version: nodeProtocolVersion,
      role: this.#role,
    };
    const answer = parseHelloResult(await this.#ask(() => hello, { signal }));
    if (answer.protocol !== nodeProtocol || answer.version !== nodeProtocolVersion) {
      throw new ConflictError(
        `${this.#where} speaks ${answer.protocol} version ${answer.version}, this mvm version ${nodeProtocolVersion}`,
        { hint: "use the same version of mvm on both sides" },
      );
    }
    return answer;
  }

  async #ask(request: () => { readonly id: number }, options: CallOptions): Promise<unknown> {
    for (let attempt = 1; ; attempt += 1) {
      const answer = await this.#exchange(request(), options);
      if ("result" in answer) return answer.result;
      if (attempt === maxRateWaits) {
        throw new OperationError(`${this.#where} says again and again that it is asked too often`);
      }
      await pause(Math.min(answer.retryAfterMs, longestRateWaitMs), options.signal);
    }
  }

  async #exchange(
    request: { readonly id: number },
    options: CallOptions,
  ): Promise<{ readonly result: unknown } | { readonly retryAfterMs: number }> {
    const channel = await this.#connection.open();
    const onAbort = (): void => channel.abort();
    options.signal.addEventListener("abort", onAbort, { once: true });
    if (options.signal.aborted) onAbort();
    try {
      await channel.send(request);
      return await this.#answer(channel, request.id, options);
    } catch (error) {
      if (options.signal.aborted) throw new OperationError("interrupted", { cause: error });
      // What a node sends is no wrong usage of this command.
      if (error instanceof UsageError) {
        throw new OperationError(`${this.#where}: ${error.message}`, { cause: error });
      }
      throw error instanceof RemoteError ? error.said : error;
    } finally {
      options.signal.removeEventListener("abort", onAbort);
      await channel.end();
    }
  }

  async #answer(
    channel: FrameChannel,
    id: number,
    options: CallOptions,
  ): Promise<{ readonly result: unknown } | { readonly retryAfterMs: number }> {
    for (;;) {
      const value = await channel.receive(true);
      if (value === undefined) throw new OperationError(`${this.#where} gave no answer`);
      const message = parseNodeMessage(value);
      // A node that read no request answers to the number 0.
      if (message.id !== id && !("error" in message && message.id === 0)) {
        throw new OperationError(`${this.#where} answered another request`);
      }
      if ("progress" in message) options.onProgress?.(message.progress);
      else if ("error" in message) {
        const { error } = message;
        if (error.code !== "rate_limited") throw new RemoteError(errorFromWire(this.#where, error));
        const wait = error.details["retry_after_ms"];
        return { retryAfterMs: typeof wait === "number" && wait > 0 ? wait : 1000 };
      } else return { result: message.result };
    }
  }

  get #where(): string {
    const { role, address, id } = this.#connection.peer;
    return role === "local" ? "the daemon" : `node ${id} (${address})`;
  }
}

/** What the node itself said, on its way out of an exchange. */
class RemoteError extends Error {
  readonly said: MvmError;

  constructor(said: MvmError) {
    super(said.message);
    this.said = said;
  }
}
