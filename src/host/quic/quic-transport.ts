import { QUICClient, errors, events } from "@infisical/quic";
import { parseEndpoint } from "../../domain/endpoint.ts";
import { NotTrustedError, OperationError } from "../../domain/errors.ts";
import type {
  Connection,
  ConnectionService,
  DialTarget,
  FrameChannel,
  Peer,
  Transport,
  TransportIdentity,
} from "../../ports/transport.ts";
import { type TransportLimits, defaultTransportLimits } from "../transport/limits.ts";
import { GuardedSocket } from "./guarded-socket.ts";
import { judgePeer } from "./peer-certificate.ts";
import { QuicListener } from "./quic-listener.ts";
import { channelOn } from "./quic-stream.ts";
import { clientConfig, clientCrypto, quicConfig, silentLogger } from "./settings.ts";
import { tlsProblem } from "./tls-alerts.ts";

const roomPollMs = 5;

export interface QuicTransportOptions {
  /** Asked at each dial and when a listener starts. @throws HostLacksError when there is none. */
  readonly identity: () => Promise<TransportIdentity>;
  readonly limits?: Partial<TransportLimits>;
  readonly nowMs: () => number;
  readonly onFault: (error: unknown) => void;
}

/** Frames between machines over QUIC (RFC 9000) with mutual TLS 1.3. */
export class QuicTransport implements Transport {
  readonly #options: QuicTransportOptions;
  readonly #limits: TransportLimits;

  constructor(options: QuicTransportOptions) {
    this.#options = options;
    this.#limits = { ...defaultTransportLimits, ...options.limits };
  }

  async listen(address: string, service: ConnectionService): Promise<QuicListener> {
    const { host, port } = parseEndpoint(address);
    const { nowMs, onFault } = this.#options;
    const identity = await this.#options.identity();
    return QuicListener.start(host, port, {
      identity,
      limits: this.#limits,
      service,
      nowMs,
      onFault,
    });
  }

  async dial(target: DialTarget, signal: AbortSignal): Promise<Connection> {
    const identity = await this.#options.identity();
    const where = `${target.host}:${target.port}`;
    const socket = new GuardedSocket({
      // Nobody begins a connection with a side that dials.
      mayBegin: () => false,
      onFault: this.#options.onFault,
    });
    await socket.start({ host: target.host.includes(":") ? "::" : "0.0.0.0" });
    let client: QUICClient;
    try {
      client = await QUICClient.createQUICClient(
        {
          host: target.host,
          port: target.port,
          // A name of the certificate: with an address alone the check of names would fail.
          serverName: target.nodeId === undefined ? "node.mvm" : `${target.nodeId}.node.mvm`,
          socket,
          logger: silentLogger,
          crypto: clientCrypto,
          config: { ...quicConfig(identity, this.#limits), ...clientConfig },
        },
        { timer: this.#limits.handshakeMs, signal },
      );
    } catch (error) {
      await socket.stop({ force: true });
      if (signal.aborted) throw new OperationError("interrupted", { cause: error });
      throw dialError(where, error);
    }
    const dialed = new Dialed(client, socket, where, this.#limits);
    try {
      await dialed.judge(identity, target.nodeId, this.#options.nowMs());
    } catch (error) {
      await dialed.close();
      throw error;
    }
    return dialed;
  }
}

/** A connection that this side opened, alone on its socket. */
class Dialed implements Connection {
  readonly #client: QUICClient;
  readonly #socket: GuardedSocket;
  readonly #where: string;
  readonly #limits: TransportLimits;
  #peer: Peer | undefined;
  #ended: unknown;
  #over = false;
  #channels = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(client: QUICClient, socket: GuardedSocket, where: string, limits: TransportLimits) {
    this.#client = client;
    this.#socket = socket;
    this.#where = where;
    this.#limits = limits;
    // A side that refuses this one says so only after the handshake (RFC 8446, 4.4.2.4).
    client.addEventListener(events.EventQUICClientClose.name, (event: Event) => {
      this.#ended ??= (event as unknown as events.EventQUICClientClose).detail;
      this.#over = true;
      // The library may still be at its own closing of the connection.
      setTimeout(() => void this.#release(), 0);
    });
  }

  get peer(): Peer {
    if (this.#peer === undefined) throw new OperationError("the peer is not verified");
    return this.#peer;
  }

  async judge(
    identity: TransportIdentity,
    nodeId: string | undefined,
    nowMs: number,
  ): Promise<void> {
    const { connection } = this.#client;
    try {
      this.#peer = judgePeer(connection.getRemoteCertsChain(), identity, this.#where, nowMs);
    } catch (error) {
      if (!(error instanceof NotTrustedError)) throw error;
      throw new NotTrustedError(`who answers at ${this.#where} is not trusted`, { cause: error });
    }
    const { role, id } = this.#peer;
    if (role !== "node" || (nodeId !== undefined && id !== nodeId)) {
      throw new NotTrustedError(
        `at ${this.#where} answers ${role} ${id}, not node ${nodeId ?? "at all"}`,
      );
    }
  }

  /** Waits while as many channels are open as the other side takes well. */
  async open(): Promise<FrameChannel> {
    while (this.#channels >= this.#limits.maxChannels / 2 && !this.#over) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    // From here on it counts, so that as many wait for room as there will be.
    this.#channels += 1;
    try {
      const untilMs = Date.now() + this.#limits.sendMs;
      while (!this.#hasRoom()) {
        if (Date.now() > untilMs) {
          throw new OperationError(`${this.#where} takes no more requests at once`);
        }
        await new Promise((resolve) => setTimeout(resolve, roomPollMs));
      }
      const stream = this.#client.connection.newStream();
      const over = (): void => this.#leaveRoom();
      const channel = channelOn(stream, this.#limits, { usedBytes: 0 }, over);
      return new DialedChannel(channel, () => (this.#over ? this.#endError() : undefined));
    } catch (error) {
      this.#leaveRoom();
      if (error instanceof errors.ErrorQUIC) throw this.#endError(error);
      throw error;
    }
  }

  /**
   * Whether the other side takes another stream (RFC 9000, 4.6). The library must not be asked for one
   * before: a stream that it could not open is one that it can never open.
   */
  #hasRoom(): boolean {
    if (this.#over) throw this.#endError();
    const { conn } = this.#client.connection as unknown as {
      readonly conn: { peerStreamsLeftBidi(): number };
    };
    return conn.peerStreamsLeftBidi() > 0;
  }

  #leaveRoom(): void {
    this.#channels -= 1;
    this.#waiting.shift()?.();
  }

  async close(): Promise<void> {
    this.#over = true;
    try {
      await this.#client.destroy({ force: true });
    } catch (error) {
      if (!(error instanceof errors.ErrorQUIC)) throw error;
    }
    await this.#release();
  }

  async #release(): Promise<void> {
    for (const wake of this.#waiting.splice(0)) wake();
    try {
      await this.#socket.stop({ force: true });
    } catch (error) {
      if (!(error instanceof errors.ErrorQUIC)) throw error;
    }
  }

  #endError(cause?: unknown): Error {
    return dialError(this.#where, this.#ended ?? cause);
  }
}

/** A channel that says why its connection ended, when that is why it broke. */
class DialedChannel implements FrameChannel {
  readonly #channel: FrameChannel;
  readonly #why: () => Error | undefined;

  constructor(channel: FrameChannel, why: () => Error | undefined) {
    this.#channel = channel;
    this.#why = why;
  }

  get signal(): AbortSignal {
    return this.#channel.signal;
  }

  async receive(patient = false): Promise<unknown> {
    return this.#explained(() => this.#channel.receive(patient));
  }

  async send(value: unknown): Promise<void> {
    await this.#explained(() => this.#channel.send(value));
  }

  async end(): Promise<void> {
    await this.#channel.end();
  }

  abort(): void {
    this.#channel.abort();
  }

  async #explained<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof OperationError)) throw error;
      // The stream breaks a moment before the connection tells why.
      await new Promise((resolve) => setTimeout(resolve, 50));
      throw this.#why() ?? error;
    }
  }
}

/** What a connection that cannot be made, or that ended, means to a person. */
function dialError(where: string, error: unknown): Error {
  const problem = tlsProblem(error);
  if (problem !== undefined) return new NotTrustedError(`${where}: ${problem.what}`, problem);
  if (isTimeout(error)) {
    return new OperationError(`${where} does not answer`, {
      cause: error,
      hint: "is `mvm agent serve` running there, and does UDP reach that port?",
    });
  }
  const data = (error as { readonly data?: { readonly reason?: unknown } } | undefined)?.data;
  const reason =
    data?.reason instanceof Uint8Array ? Buffer.from(data.reason).toString("utf8") : "";
  return new OperationError(
    `the connection to ${where} ended${reason === "" ? "" : `: ${reason.replaceAll(/[^ -~]/g, "?")}`}`,
    { cause: error },
  );
}

function isTimeout(error: unknown): boolean {
  return (
    error instanceof errors.ErrorQUICConnectionIdleTimeout ||
    error instanceof errors.ErrorQUICConnectionStartTimeout ||
    error instanceof errors.ErrorQUICClientCreateTimeout
  );
}
