import { rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import { type Server, type Socket, connect, createServer } from "node:net";
import type { Duplex } from "node:stream";
import * as z from "zod/mini";
import { ConflictError, MvmError, OperationError, describeError } from "../../domain/errors.ts";
import { FrameDecoder, encodeFrame } from "../../protocol/frames.ts";
import type { HelloAnswer } from "../../protocol/guest-messages.ts";
import {
  type GuestRequest,
  parseGuestRequest,
  requestIdOf,
} from "../../protocol/guest-requests.ts";
import type { GuestLinkLimits } from "./limits.ts";
import { type GuestRequests, inTheGuest } from "./requests.ts";

/** More would be a flood: each command has one conversation. */
const maxConversations = 32;
const maxPendingEach = 16;

/** A conversation through the command that holds the channel. @throws OperationError when there is none, or it is not shared. */
export function connectShared(path: string, signal: AbortSignal): Promise<Duplex> {
  const socket = connect(path);
  const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
  socket.once("connect", () => resolve(socket));
  socket.once("error", (cause) =>
    reject(new OperationError("the channel to the guest is not shared", { cause })),
  );
  const onAbort = (): void => void socket.destroy(new OperationError("interrupted"));
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  return promise;
}

/**
 * Lets others ask the guest while a command holds the channel, maybe for hours: a shell that is left open
 * must not keep `stop` and the look at its health from it. They speak as with the guest itself, and may
 * ask all but to run commands. Whoever can open the socket could open the channel itself.
 */
export class SharedSession {
  readonly #path: string;
  readonly #hello: HelloAnswer;
  readonly #requests: GuestRequests;
  readonly #limits: GuestLinkLimits;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #pending = 0;
  #finishing = false;
  #onIdle: () => void = () => undefined;

  private constructor(
    path: string,
    hello: HelloAnswer,
    requests: GuestRequests,
    limits: GuestLinkLimits,
  ) {
    this.#path = path;
    this.#hello = hello;
    this.#requests = requests;
    this.#limits = limits;
    this.#server = createServer((socket) => this.#serve(socket));
    this.#server.maxConnections = maxConversations;
  }

  /** Listens at `path`. The caller holds the channel's lock, so a socket that is there is of one that died. */
  static async begin(
    path: string,
    hello: HelloAnswer,
    requests: GuestRequests,
    limits: GuestLinkLimits,
  ): Promise<SharedSession> {
    const shared = new SharedSession(path, hello, requests, limits);
    await rm(shared.#path, { force: true });
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    shared.#server.once("error", (cause) =>
      reject(new OperationError("the channel to the guest cannot be shared", { cause })),
    );
    shared.#server.listen(shared.#path, () => resolve(undefined));
    await promise;
    return shared;
  }

  /** Takes no more questions; resolves when those that were asked have their answers. */
  async finish(): Promise<void> {
    this.#finishing = true;
    this.#server.close();
    rmSync(this.#path, { force: true });
    if (this.#pending > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
    this.end();
  }

  /** At once: nobody answers any more. */
  end(): void {
    this.#server.close();
    rmSync(this.#path, { force: true });
    for (const socket of this.#sockets) socket.destroy();
    this.#onIdle();
  }

  #serve(socket: Socket): void {
    const decoder = new FrameDecoder();
    let pending = 0;
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    // Whoever asked has gone; its close says so.
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      try {
        for (const value of decoder.push(chunk)) {
          const id = requestIdOf(value);
          if (id === undefined || pending >= maxPendingEach || this.#finishing) {
            socket.destroy();
            return;
          }
          pending += 1;
          this.#pending += 1;
          void this.#answer(id, value)
            .then((answer) => send(socket, encodeFrame(answer)))
            .finally(() => {
              pending -= 1;
              this.#pending -= 1;
              if (this.#pending === 0) this.#onIdle();
            });
        }
      } catch (error) {
        if (!(error instanceof OperationError)) throw error;
        socket.destroy();
      }
    });
  }

  async #answer(id: number, value: unknown): Promise<Readonly<object>> {
    try {
      return { id, ok: true, result: await this.#ask(parseGuestRequest(value)) };
    } catch (error) {
      if (!(error instanceof MvmError)) throw error;
      return { id, error: { code: error.code, message: messageOf(error) } };
    }
  }

  async #ask(request: GuestRequest): Promise<unknown> {
    const { id: _, ...body } = request;
    switch (body.op) {
      case "Hello":
        return greetingFrom(this.#hello, body.nonce);
      case "Ping":
      case "Logs":
      case "Shutdown":
      case "Health": {
        const timeoutMs =
          body.op === "Health" ? this.#limits.healthTimeoutMs : this.#limits.requestTimeoutMs;
        // Whoever asked checks the form of the answer, as if it came from the guest.
        return await this.#requests.start(body, { schema: z.unknown(), timeoutMs }).answer;
      }
      case "Exec":
      case "ExecInput":
      case "ExecResize":
      case "ExecCancel":
        throw new ConflictError("one command at a time runs in a guest");
      default:
        return body satisfies never;
    }
  }
}

/** Resolves when it is on its way, or whoever asked has gone. */
async function send(socket: Socket, frame: Buffer): Promise<void> {
  await new Promise<void>((resolve) => socket.write(frame, () => resolve()));
}

/** Whoever asked says again that it was in the guest. */
function messageOf(error: MvmError): string {
  return describeError(error).replace(inTheGuest, "").slice(0, 2000);
}

/** The nonce comes first, as from a guest: it is looked for by its bytes. */
function greetingFrom(hello: HelloAnswer, nonce: string): HelloAnswer {
  const { protocol, version, boot_id, instance_id } = hello;
  return { nonce, protocol, version, boot_id, instance_id };
}
