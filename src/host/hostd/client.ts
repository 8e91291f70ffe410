import { once } from "node:events";
import { type Socket, connect } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import {
  ConflictError,
  HostLacksError,
  MvmError,
  NotTrustedError,
  OperationError,
} from "../../domain/errors.ts";
import {
  hostdHello,
  hostdHelloSchema,
  hostdMessageSchema,
  hostdProtocolVersion,
} from "../../protocol/hostd-messages.ts";
import {
  type HostdAnswer,
  type HostdOp,
  type HostdRequest,
  hostdSchemas,
} from "../../protocol/hostd-operations.ts";
import { isErrno } from "../files.ts";
import type { PeerCredentials } from "../syscalls.ts";
import { errorOf } from "./failures.ts";
import { FramedSocket } from "./framed-socket.ts";

export interface HostdClientOptions {
  readonly path: string;
  readonly peerOf: (socket: Socket) => PeerCredentials;
  /** How long a hostd that is gone is waited for: it is being started again. Default 30 s. */
  readonly reconnectMs?: number;
}

export interface HostdCallOptions<K extends HostdOp> {
  /** For one try. Default two minutes. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (line: string) => void;
  /** What is asked when an earlier try may have been carried out; by default the same again. */
  readonly again?: HostdRequest<K>;
}

const defaultReconnectMs = 30_000;
const defaultTimeoutMs = 120_000;
const retryMs = 100;
const helloMs = 5000;

/** hostd went away before it answered; what was asked may have been done. */
class HostdGone extends Error {}

/**
 * Asks hostd, one connection for each request. A hostd that dies meanwhile is waited for and asked again:
 * every operation of the table is ensure-style, so that doing it twice is doing it once.
 */
export class HostdClient {
  readonly #options: HostdClientOptions;

  constructor(options: HostdClientOptions) {
    this.#options = options;
  }

  /** @throws MvmError as hostd threw it; HostLacksError when there is no hostd; OperationError when it is late or interrupted. */
  async call<K extends HostdOp>(
    op: K,
    request: HostdRequest<K>,
    options: HostdCallOptions<K> = {},
  ): Promise<HostdAnswer<K>> {
    const { framed, answer } = await this.#ask(op, request, options);
    framed.socket.destroy();
    return answer;
  }

  /** As `call`, and the connection is the caller's: hostd keeps what it answered with for as long as that lasts. */
  async open<K extends HostdOp>(
    op: K,
    request: HostdRequest<K>,
    options: HostdCallOptions<K> = {},
  ): Promise<Duplex> {
    return (await this.#ask(op, request, options)).framed.release();
  }

  async #ask<K extends HostdOp>(
    op: K,
    request: HostdRequest<K>,
    options: HostdCallOptions<K>,
  ): Promise<{ readonly framed: FramedSocket; readonly answer: HostdAnswer<K> }> {
    const reconnectMs = this.#options.reconnectMs ?? defaultReconnectMs;
    let deadlineMs = performance.now() + reconnectMs;
    let asked = request;
    for (;;) {
      try {
        return await this.#try(op, asked, options);
      } catch (error) {
        if (!(error instanceof HostdGone)) throw error;
        if (error.cause !== notThere) {
          // It was there a moment ago: the time to wait begins anew.
          asked = options.again ?? request;
          deadlineMs = performance.now() + reconnectMs;
        }
        if (isAborted(options.signal)) throw interrupted(op);
        if (performance.now() >= deadlineMs) {
          throw new HostLacksError(`hostd does not answer at ${this.#options.path}`, {
            hint: "is it running? systemctl status mvm-hostd, or start it: mvm hostd serve",
            cause: error,
          });
        }
      }
      await delay(retryMs);
    }
  }

  async #try<K extends HostdOp>(
    op: K,
    request: HostdRequest<K>,
    options: HostdCallOptions<K>,
  ): Promise<{ readonly framed: FramedSocket; readonly answer: HostdAnswer<K> }> {
    if (isAborted(options.signal)) throw interrupted(op);
    const framed = new FramedSocket(await this.#connect());
    const { socket } = framed;
    const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      socket.destroy();
    }, timeoutMs);
    const cancel = (): void => {
      framed.send({ id: 1, op: "Cancel" });
      socket.end();
    };
    let kept = false;
    try {
      await greet(framed);
      framed.send({ id: 1, op, ...request });
      options.signal?.addEventListener("abort", cancel, { once: true });
      if (isAborted(options.signal)) cancel();
      const result = await this.#answer(framed, options.onProgress);
      const answer = hostdSchemas[op].answer.safeParse(result);
      if (!answer.success) throw new OperationError(`hostd answered ${op} in an unknown form`);
      kept = true;
      return { framed, answer: answer.data };
    } catch (error) {
      if (late) throw new OperationError(`hostd did not answer ${op} within ${timeoutMs} ms`);
      if (isAborted(options.signal) && error instanceof HostdGone) throw interrupted(op);
      throw error;
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", cancel);
      if (!kept) socket.destroy();
    }
  }

  async #connect(): Promise<Socket> {
    const socket = connect(this.#options.path);
    try {
      await once(socket, "connect");
    } catch (error) {
      socket.destroy();
      if (isErrno(error, "ENOENT") || isErrno(error, "ECONNREFUSED")) {
        throw new HostdGone("nobody listens", { cause: notThere });
      }
      if (isErrno(error, "EACCES")) {
        throw new HostLacksError(`this user may not ask hostd at ${this.#options.path}`, {
          hint: "only agentd may: run it as its own user, in its own group",
          cause: error,
        });
      }
      if (isErrno(error, "ECONNRESET") || isErrno(error, "EAGAIN")) {
        throw new HostdGone("it is busy or ending", { cause: notThere });
      }
      throw error;
    }
    const { uid } = this.#options.peerOf(socket);
    if (uid !== 0) {
      socket.destroy();
      throw new NotTrustedError(
        `what listens at ${this.#options.path} is not root's and so no hostd: it is user ${uid}'s`,
        { hint: "end it, and start hostd: systemctl restart mvm-hostd" },
      );
    }
    return socket;
  }

  async #answer(
    framed: FramedSocket,
    onProgress: ((line: string) => void) | undefined,
  ): Promise<unknown> {
    for (;;) {
      const message = hostdMessageSchema.safeParse(await frameOf(framed));
      if (!message.success) throw new OperationError("hostd sent a message of no known form");
      if ("progress" in message.data) onProgress?.(message.data.progress);
      else if ("error" in message.data) throw errorOf(message.data.error);
      else return message.data.result;
    }
  }
}

const notThere = "not there";

async function greet(framed: FramedSocket): Promise<void> {
  const timer = setTimeout(() => framed.socket.destroy(), helloMs);
  try {
    framed.send(hostdHello("agentd"));
    const value = await frameOf(framed);
    const hello = hostdHelloSchema.safeParse(value);
    if (!hello.success) {
      const refusal = hostdMessageSchema.safeParse(value);
      if (refusal.success && "error" in refusal.data) throw errorOf(refusal.data.error);
      throw new OperationError("what listens there is no hostd");
    }
    if (hello.data.version !== hostdProtocolVersion) {
      throw new ConflictError(
        `hostd speaks version ${hello.data.version} of mvm-hostd and this agentd ${hostdProtocolVersion}`,
        { hint: "restart both: they come from one release" },
      );
    }
  } finally {
    clearTimeout(timer);
  }
}

async function frameOf(framed: FramedSocket): Promise<unknown> {
  let frame;
  try {
    frame = await framed.next();
  } catch (error) {
    if (!(error instanceof MvmError)) throw error;
    throw new OperationError("hostd broke the protocol", { cause: error });
  }
  if (frame === undefined) throw new HostdGone("it went away", { cause: framed.failure });
  return frame.value;
}

function interrupted(op: HostdOp): OperationError {
  return new OperationError(`${op} was interrupted`);
}

/** Asked anew each time: it may be aborted meanwhile. */
function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}
