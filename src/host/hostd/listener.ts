import { chmod, chown, rm } from "node:fs/promises";
import { once } from "node:events";
import { type Server, type Socket, createServer } from "node:net";
import type { Duplex } from "node:stream";
import * as z from "zod/mini";
import en from "zod/v4/locales/en.js";
import { MvmError, NotTrustedError, UsageError } from "../../domain/errors.ts";
import type { HostdCall, HostdHandlers } from "../../ports/hostd.ts";
import {
  hostdHello,
  hostdHelloSchema,
  hostdProtocolVersion,
  hostdRequestHeadSchema,
} from "../../protocol/hostd-messages.ts";
import {
  type HostdAnswer,
  type HostdOp,
  hostdSchemas,
  isHostdOp,
} from "../../protocol/hostd-operations.ts";
import type { PeerCredentials } from "../syscalls.ts";
import { failureOf } from "./failures.ts";
import { FramedSocket } from "./framed-socket.ts";

export interface HostdListenerOptions {
  readonly path: string;
  /** Whose the socket is. Default root. */
  readonly ownerUid?: number;
  /** The group that may connect, of which agentd alone is a member. */
  readonly gid: number;
  /** Who may ask, besides root. */
  readonly agentUid: number;
  readonly handlers: HostdHandlers;
  readonly peerOf: (socket: Socket) => PeerCredentials;
  /** Called with what is worth a line in hostd's own log: refusals and defects. */
  readonly onNote: (line: string) => void;
  /** At once; agentd has one for each call. Default 256. */
  readonly maxConnections?: number;
  /** How long a peer may take for its Hello and its request, each. Default 5 s. */
  readonly greetingMs?: number;
}

const defaultMaxConnections = 256;
const defaultGreetingMs = 5000;
const inEnglish = { error: en().localeError };

/** Serves the table of operations on a Unix socket: one request a connection, each peer known by the kernel's word. */
export class HostdListener {
  readonly #options: HostdListenerOptions;
  readonly #server: Server;
  readonly #running = new Set<Promise<void>>();
  readonly #sockets = new Set<Socket>();
  /** Who has not asked for anything yet. */
  readonly #idle = new Set<Socket>();
  /** Who was answered, and keeps the connection. */
  readonly #held = new Set<Socket>();

  private constructor(options: HostdListenerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
      const work = this.#serve(new FramedSocket(socket)).finally(() => this.#running.delete(work));
      this.#running.add(work);
    });
    this.#server.maxConnections = options.maxConnections ?? defaultMaxConnections;
  }

  /** Replaces whatever is at the path; the caller holds hostd's lock, so nobody listens there. */
  static async open(options: HostdListenerOptions): Promise<HostdListener> {
    const listener = new HostdListener(options);
    await rm(options.path, { force: true });
    // Nobody else may connect in the moment before it has its owner and mode.
    const before = process.umask(0o177);
    try {
      listener.#server.listen(options.path);
      await once(listener.#server, "listening");
    } finally {
      process.umask(before);
    }
    await chown(options.path, options.ownerUid ?? 0, options.gid);
    await chmod(options.path, 0o660);
    return listener;
  }

  /** Takes no more requests and waits for those under way, `graceMs` at most; what is left then is cut off. */
  async close(graceMs: number): Promise<void> {
    this.#server.close();
    for (const socket of this.#idle) socket.destroy();
    for (const socket of this.#held) socket.destroy();
    const timer = new AbortController();
    const grace = new Promise<void>((resolve) => {
      const handle = setTimeout(resolve, graceMs);
      timer.signal.addEventListener("abort", () => clearTimeout(handle), { once: true });
    });
    await Promise.race([Promise.all(this.#running), grace]);
    timer.abort();
    for (const socket of this.#sockets) socket.destroy();
  }

  async #serve(framed: FramedSocket): Promise<void> {
    const { socket } = framed;
    const { onNote } = this.#options;
    try {
      const peer = this.#options.peerOf(socket);
      if (peer.uid !== 0 && peer.uid !== this.#options.agentUid) {
        throw new NotTrustedError(`hostd does not answer to user ${peer.uid}`);
      }
      await this.#answer(framed);
    } catch (error) {
      onNote(`a connection was refused: ${failureOf(error).message}`);
      framed.send({ id: 0, error: failureOf(error) });
    }
    socket.end();
    // A peer that reads nothing holds nothing here.
    socket.setTimeout(this.#greetingMs, () => socket.destroy());
    socket.resume();
  }

  get #greetingMs(): number {
    return this.#options.greetingMs ?? defaultGreetingMs;
  }

  async #answer(framed: FramedSocket): Promise<void> {
    const hello = await this.#prompt(framed, "Hello");
    if (hello === undefined) return;
    const greeting = hostdHelloSchema.safeParse(hello.value, inEnglish);
    if (!greeting.success || greeting.data.role !== "agentd") {
      throw new UsageError("the first frame is no Hello of an agentd");
    }
    if (greeting.data.version !== hostdProtocolVersion) {
      throw new UsageError(
        `agentd speaks version ${greeting.data.version} of mvm-hostd and this hostd ${hostdProtocolVersion}`,
        { hint: "restart both: they come from one release" },
      );
    }
    framed.send(hostdHello("hostd"));
    const asked = await this.#prompt(framed, "request");
    if (asked === undefined) return;
    await this.#run(framed, asked.value);
  }

  /** What a peer should send soon. */
  async #prompt(
    framed: FramedSocket,
    what: string,
  ): Promise<{ readonly value: unknown } | undefined> {
    const { socket } = framed;
    this.#idle.add(socket);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      socket.destroy();
    }, this.#greetingMs);
    try {
      const frame = await framed.next();
      if (late) this.#options.onNote(`a peer sent no ${what} within ${this.#greetingMs} ms`);
      return frame;
    } finally {
      clearTimeout(timer);
      this.#idle.delete(socket);
    }
  }

  async #run(framed: FramedSocket, asked: unknown): Promise<void> {
    const { onNote } = this.#options;
    const head = hostdRequestHeadSchema.safeParse(asked, inEnglish);
    if (!head.success) throw new UsageError("a request has an id and an op");
    const { id, op, ...fields } = head.data as { id: number; op: string };
    const call = new Call(framed, id);
    try {
      if (!isHostdOp(op)) throw new UsageError(`hostd has no operation ${JSON.stringify(op)}`);
      framed.send({ id, ok: true, result: await this.#dispatch(op, fields, call) });
    } catch (error) {
      const failure = failureOf(error);
      if (!(error instanceof MvmError)) onNote(`${op} failed: ${failure.message}`);
      else if (error.code === "usage" || error.code === "not_trusted") {
        onNote(`${op} was refused: ${failure.message}`);
      }
      framed.send({ id, error: failure });
      return;
    } finally {
      call.end();
    }
    if (call.after === undefined) return;
    this.#held.add(framed.socket);
    try {
      await call.after(call.isWatched ? framed.socket : framed.release());
    } finally {
      this.#held.delete(framed.socket);
    }
  }

  async #dispatch<K extends HostdOp>(op: K, fields: unknown, call: Call): Promise<HostdAnswer<K>> {
    const parsed = hostdSchemas[op].request.safeParse(fields, inEnglish);
    if (!parsed.success) {
      throw new UsageError(
        `${op} was asked for in a form that hostd does not know: ${issues(parsed.error)}`,
      );
    }
    // What follows the request for a channel is for the guest.
    if (op !== "GuestChannel") call.watch();
    return this.#options.handlers[op](parsed.data, call);
  }
}

/** One request under way. */
class Call implements HostdCall {
  readonly #framed: FramedSocket;
  readonly #id: number;
  readonly #cancelled = new AbortController();
  readonly #unwanted = new AbortController();
  #ended = false;
  /** Whether frames are read on while it lasts. */
  isWatched = false;
  after: ((connection: Duplex) => Promise<void>) | undefined;

  constructor(framed: FramedSocket, id: number) {
    this.#framed = framed;
    this.#id = id;
    framed.socket.once("close", () => this.#unwanted.abort(new Error("agentd has gone")));
  }

  get cancelled(): AbortSignal {
    return this.#cancelled.signal;
  }

  get unwanted(): AbortSignal {
    return this.#unwanted.signal;
  }

  progress(line: string): void {
    // Whoever does not read what it asked for misses some of it.
    if (this.#framed.socket.writableLength > maxUnreadBytes) return;
    this.#framed.send({ id: this.#id, progress: line.slice(0, 4096) });
  }

  afterAnswer(work: (connection: Duplex) => Promise<void>): void {
    this.after = work;
  }

  end(): void {
    this.#ended = true;
  }

  /** While the work goes on, another frame can only take it back; and only who reads sees that the peer has gone. */
  watch(): void {
    this.isWatched = true;
    const next = async (): Promise<void> => {
      try {
        while ((await this.#framed.next()) !== undefined) {
          if (this.#ended) continue;
          const reason = new Error("agentd took its request back");
          this.#cancelled.abort(reason);
          this.#unwanted.abort(reason);
        }
      } catch (error) {
        if (!(error instanceof MvmError)) throw error;
        this.#unwanted.abort(error);
      }
    };
    void next();
  }
}

const maxUnreadBytes = 1024 * 1024;

function issues(error: z.core.$ZodError): string {
  return error.issues
    .slice(0, 8)
    .map(({ path, message }) => `${path.join(".") || "the request"}: ${message}`)
    .join("; ");
}
