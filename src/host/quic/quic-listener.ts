import { type QUICConnection, QUICServer, type QUICStream, errors, events } from "@infisical/quic";
import {
  HostLacksError,
  MvmError,
  NotTrustedError,
  OperationError,
  describeError,
} from "../../domain/errors.ts";
import type {
  ConnectionService,
  Listener,
  Peer,
  ServedConnection,
  TransportIdentity,
} from "../../ports/transport.ts";
import type { ByteChannel, PendingBudget } from "../transport/byte-channel.ts";
import type { TransportLimits } from "../transport/limits.ts";
import { GuardedSocket } from "./guarded-socket.ts";
import { judgePeer } from "./peer-certificate.ts";
import { channelOn } from "./quic-stream.ts";
import { tlsRefusal } from "./tls-alerts.ts";
import { quicConfig, serverCrypto, silentLogger } from "./settings.ts";

/** Codes of a connection that this side closes (RFC 9000, 20.2: they are the application's own). */
const closeCodes = { done: 0, refused: 1, limit: 2, stopping: 3 } as const;
type CloseCode = keyof typeof closeCodes;
const pollMs = 20;

interface Open {
  readonly connection: QUICConnection;
  readonly peer: Peer & { readonly serial: string };
  readonly channels: Set<ByteChannel>;
  readonly lifetime: NodeJS.Timeout;
  idle: NodeJS.Timeout;
}

export interface QuicListenerOptions {
  readonly identity: TransportIdentity;
  readonly limits: TransportLimits;
  readonly service: ConnectionService;
  readonly nowMs: () => number;
  /** A packet made the library throw, which no packet may; the listener goes on. */
  readonly onFault: (error: unknown) => void;
}

/** Takes connections of verified peers over QUIC, and hands each stream of theirs to the service. */
export class QuicListener implements Listener {
  readonly #options: QuicListenerOptions;
  readonly #socket: GuardedSocket;
  readonly #server: QUICServer;
  readonly #open = new Map<QUICConnection, Open>();
  readonly #budget: PendingBudget = { usedBytes: 0 };
  #identity: TransportIdentity;
  #stopping = false;

  /** @throws HostLacksError when the address is taken or is none of this host. */
  static async start(
    host: string,
    port: number,
    options: QuicListenerOptions,
  ): Promise<QuicListener> {
    const listener = new QuicListener(options);
    try {
      await listener.#socket.start({ host, port });
    } catch (error) {
      if (!(error instanceof errors.ErrorQUICSocketInvalidBindAddress)) throw error;
      throw new HostLacksError(`cannot listen on ${host}:${port} (UDP)`, {
        cause: error.cause,
        hint: "another program may have the port: ss -lunp; or give another address with --listen",
      });
    }
    await listener.#server.start();
    return listener;
  }

  private constructor(options: QuicListenerOptions) {
    this.#options = options;
    this.#identity = options.identity;
    this.#socket = new GuardedSocket({
      mayBegin: (address) => this.#mayBegin(address),
      onFault: options.onFault,
    });
    this.#server = new QUICServer({
      crypto: serverCrypto(),
      socket: this.#socket,
      logger: silentLogger,
      config: quicConfig(options.identity, options.limits),
      minIdleTimeout: options.limits.handshakeMs,
    });
    this.#server.addEventListener(events.EventQUICServerConnection.name, (event: Event) =>
      this.#admit((event as unknown as events.EventQUICServerConnection).detail),
    );
    // Who shows no certificate, or one of another CA, or one that has ended, does not get past TLS.
    this.#server.addEventListener(events.EventQUICConnectionError.name, (event: Event) => {
      const { detail } = event as unknown as events.EventQUICConnectionError;
      if (!(detail instanceof errors.ErrorQUICConnectionLocalTLS)) return;
      options.service.refused(this.#socket.sender ?? "unknown", tlsRefusal(detail));
    });
  }

  get address(): string {
    return `${this.#socket.host}:${this.#socket.port}`;
  }

  get port(): number {
    return this.#socket.port;
  }

  get connections(): number {
    return this.#open.size;
  }

  useIdentity(identity: TransportIdentity): void {
    this.#identity = identity;
    this.#server.updateConfig(quicConfig(identity, this.#options.limits));
    for (const { connection, peer } of this.#open.values()) {
      if (identity.revoked.has(peer.serial)) {
        this.#options.service.refused(peer.address, `the certificate of ${peer.id} was revoked`);
        this.#close(connection, "refused", "your certificate was revoked");
      }
    }
  }

  async close(graceMs: number): Promise<void> {
    this.#stopping = true;
    const until = Date.now() + graceMs;
    const busy = (): boolean => [...this.#open.values()].some(({ channels }) => channels.size > 0);
    while (busy() && Date.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
    for (const { lifetime, idle, channels } of this.#open.values()) {
      clearTimeout(lifetime);
      clearTimeout(idle);
      for (const channel of channels) channel.abort();
    }
    await this.#server.stop({ errorCode: closeCodes.stopping, reason: Buffer.from("stopping") });
    await this.#socket.stop({ force: true });
  }

  #mayBegin(address: string): boolean {
    const { limits } = this.#options;
    if (this.#stopping || this.#socket.known.size >= limits.maxConnections) return false;
    let handshakes = 0;
    for (const connection of this.#socket.known.serverConnections.values()) {
      if (connection.remoteHost === address && !this.#open.has(connection)) handshakes += 1;
    }
    return handshakes < limits.maxHandshakesPerAddress;
  }

  /** TLS is through: whom it verified is judged before anything of theirs is read. */
  #admit(connection: QUICConnection): void {
    const { service, nowMs, limits } = this.#options;
    const address = `${connection.remoteHost}:${connection.remotePort}`;
    let peer: Open["peer"];
    try {
      peer = judgePeer(connection.getRemoteCertsChain(), this.#identity, address, nowMs());
    } catch (error) {
      if (!(error instanceof NotTrustedError)) throw error;
      service.refused(address, describeError(error));
      this.#close(connection, "refused", describeError(error));
      return;
    }
    const end = (reason: string) => (): void => this.#close(connection, "limit", reason);
    const open: Open = {
      connection,
      peer,
      channels: new Set(),
      lifetime: setTimeout(
        end("connected for too long, or the certificate ended: dial again"),
        Math.min(limits.connectionMs, (peer.expiresAtMs ?? Infinity) - nowMs()),
      ),
      idle: setTimeout(end("idle"), limits.idleMs),
    };
    this.#open.set(connection, open);
    connection.addEventListener(events.EventQUICConnectionStream.name, (event: Event) =>
      this.#serve(open, (event as unknown as events.EventQUICConnectionStream).detail),
    );
    const forget = (): void => {
      clearTimeout(open.lifetime);
      clearTimeout(open.idle);
      for (const channel of open.channels) channel.leave();
      this.#open.delete(connection);
    };
    connection.addEventListener(events.EventQUICConnectionClose.name, forget, { once: true });
    connection.addEventListener(events.EventQUICConnectionStopped.name, forget, { once: true });
  }

  #serve(open: Open, stream: QUICStream): void {
    const { limits, service } = this.#options;
    if (this.#stopping || stream.type !== "bidi" || open.channels.size >= limits.maxChannels) {
      stream.cancel(new OperationError("no more channels are taken"));
      return;
    }
    clearTimeout(open.idle);
    const channel = channelOn(stream, limits, this.#budget, () => {
      open.channels.delete(channel);
      if (open.channels.size > 0 || !this.#open.has(open.connection)) return;
      clearTimeout(open.idle);
      open.idle = setTimeout(() => this.#close(open.connection, "limit", "idle"), limits.idleMs);
    });
    open.channels.add(channel);
    const served: ServedConnection = {
      peer: open.peer,
      close: (reason) => this.#close(open.connection, "limit", reason),
    };
    service.serve(served, channel);
  }

  #close(connection: QUICConnection, code: CloseCode, reason: string): void {
    connection
      .stop({ errorCode: closeCodes[code], reason: Buffer.from(reason.slice(0, 200)), force: true })
      .catch((error: unknown) => {
        if (error instanceof MvmError || error instanceof errors.ErrorQUIC) return;
        this.#options.onFault(error);
      });
  }
}
