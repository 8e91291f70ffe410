import { rm } from "node:fs/promises";
import { type Server, type Socket, createConnection, createServer } from "node:net";
import { HostLacksError, OperationError, isSystemError } from "../../domain/errors.ts";
import type {
  Connection,
  ConnectionService,
  FrameChannel,
  Listener,
  Peer,
} from "../../ports/transport.ts";
import { ByteChannel, type ByteStream, type PendingBudget } from "./byte-channel.ts";
import { type TransportLimits, defaultTransportLimits } from "./limits.ts";

/** Whoever may open the socket: its file says who that is. */
function localPeer(path: string): Peer {
  return { role: "local", id: "local", address: path, expiresAtMs: null };
}

/** Takes connections on a Unix socket, 0660; each carries one channel. A socket file that a listener left when it died is replaced. */
export class UnixListener implements Listener {
  readonly address: string;
  readonly #server: Server;
  readonly #limits: TransportLimits;
  readonly #budget: PendingBudget = { usedBytes: 0 };
  readonly #channels = new Set<ByteChannel>();

  /** @throws HostLacksError when somebody listens there already, or the folder is missing. */
  static async start(
    path: string,
    service: ConnectionService,
    limits: Partial<TransportLimits> = {},
  ): Promise<UnixListener> {
    if (await isAnswered(path)) {
      throw new HostLacksError(`somebody listens on ${path} already`, {
        hint: "one `mvm agent serve` a node: stop the other one",
      });
    }
    await rm(path, { force: true });
    const server = createServer();
    const listener = new UnixListener(path, server, service, {
      ...defaultTransportLimits,
      ...limits,
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) =>
        reject(new HostLacksError(`cannot listen on ${path}`, { cause })),
      );
      listenAsGroup(server, path, resolve);
    });
    return listener;
  }

  private constructor(
    path: string,
    server: Server,
    service: ConnectionService,
    limits: TransportLimits,
  ) {
    this.address = path;
    this.#server = server;
    this.#limits = limits;
    server.maxConnections = limits.maxConnections;
    server.on("connection", (socket) => {
      const channel = channelOn(socket, this.#limits, this.#budget);
      this.#channels.add(channel);
      socket.once("close", () => this.#channels.delete(channel));
      service.serve({ peer: localPeer(path), close: () => socket.destroy() }, channel);
    });
  }

  get connections(): number {
    return this.#channels.size;
  }

  useIdentity(): void {
    // Nobody shows a certificate here.
  }

  async close(graceMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const timer = setTimeout(() => {
      for (const channel of this.#channels) channel.abort();
    }, graceMs);
    // The socket's file goes with the server; a later one of that name is another listener's.
    await closed;
    clearTimeout(timer);
  }
}

/** Connects to a node's socket; each channel is a connection of its own. */
export function dialUnix(path: string, limits: Partial<TransportLimits> = {}): Connection {
  const all = { ...defaultTransportLimits, ...limits };
  return {
    peer: localPeer(path),
    open: async (): Promise<FrameChannel> => channelOn(await connect(path), all, { usedBytes: 0 }),
    close: async () => undefined,
  };
}

/** The file has its mode from the moment it is there: `listen` makes it before it answers. */
function listenAsGroup(server: Server, path: string, onListening: () => void): void {
  const before = process.umask(0o117);
  try {
    server.listen(path, onListening);
  } finally {
    process.umask(before);
  }
}

/** Whether a program answers on a socket. Only a file that nobody listens on any more counts as left: a busy listener refuses too. */
async function isAnswered(path: string): Promise<boolean> {
  try {
    (await connect(path)).destroy();
    return true;
  } catch (error) {
    if (!(error instanceof OperationError)) throw error;
    const { cause } = error;
    return !(isSystemError(cause) && (cause.code === "ENOENT" || cause.code === "ECONNREFUSED"));
  }
}

async function connect(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once("connect", () => resolve(socket));
    socket.once("error", (cause) =>
      reject(new OperationError(`nobody answers on ${path}`, { cause })),
    );
  });
}

function channelOn(socket: Socket, limits: TransportLimits, budget: PendingBudget): ByteChannel {
  const channel = new ByteChannel(new SocketBytes(socket), limits, budget);
  // A peer that ends its part may still read; one that closed is gone.
  socket.once("close", () => channel.leave());
  return channel;
}

class SocketBytes implements ByteStream {
  readonly #socket: Socket;
  readonly #chunks: AsyncIterator<Buffer>;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.allowHalfOpen = true;
    socket.on("error", () => undefined);
    this.#chunks = socket.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
  }

  async read(): Promise<Uint8Array | undefined> {
    try {
      const { done, value } = await this.#chunks.next();
      return done === true ? undefined : value;
    } catch (error) {
      if (!isSystemError(error) && !isPremature(error)) throw error;
      throw new OperationError("the connection broke", { cause: error });
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#socket.write(bytes, (cause) => {
        if (cause === undefined || cause === null) resolve();
        else reject(new OperationError("the connection broke", { cause }));
      });
    });
  }

  async end(): Promise<void> {
    await new Promise<void>((resolve) => this.#socket.end(resolve));
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

function isPremature(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ERR_STREAM_PREMATURE_CLOSE";
}
