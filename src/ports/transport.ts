/** Who a certificate may be for. `local` is whoever may open the node's Unix socket. */
export type PeerRole = "coordinator" | "node" | "local";

/** The other end of a connection, once it is verified. */
export interface Peer {
  readonly role: PeerRole;
  /** A node's id, or a coordinator's name. */
  readonly id: string;
  /** `address:port`, or the path of a socket. */
  readonly address: string;
  /** When its certificate ends, in milliseconds since 1970; null without one. */
  readonly expiresAtMs: number | null;
}

/** Key, certificate and what others are judged by; all PEM. */
export interface TransportIdentity {
  readonly keyPem: string;
  readonly certificatePem: string;
  readonly caPem: string;
  /** Serial numbers that its CA took back, in lower-case hex. */
  readonly revoked: ReadonlySet<string>;
}

/** One exchange of frames: a bidirectional stream of a connection. */
export interface FrameChannel {
  /**
   * The next frame's value, or undefined when the other side has ended its part.
   * @param patient waits for as long as the channel lives, as for the answer to a long request.
   * @throws UsageError for what is no frame, is too long or too slow: what can still be said is said then; OperationError when the channel broke.
   */
  receive(patient?: boolean): Promise<unknown>;
  /** @throws OperationError when the channel breaks or the other side does not take it in time; UsageError for a value that fits no frame. */
  send(value: unknown): Promise<void>;
  /** Ends this side's part once all of it was taken. What fails then concerns nobody. */
  end(): Promise<void>;
  /** Gives both directions up at once. */
  abort(): void;
  /** Aborted when the other side gave up, the connection ended or the channel was given up. */
  readonly signal: AbortSignal;
}

/** A connection that a listener took. */
export interface ServedConnection {
  readonly peer: Peer;
  /** Closes it, with a short reason that the other side is told. */
  close(reason: string): void;
}

/** What serves connections. It is asked only for peers that are verified. */
export interface ConnectionService {
  /** Called for each channel that a peer opens, at once. Never throws. */
  serve(connection: ServedConnection, channel: FrameChannel): void;
  /** Called when somebody was refused before anything of theirs was read. */
  refused(address: string, cause: string): void;
}

/** An open port. */
export interface Listener {
  /** `host:port` or the path of a socket. */
  readonly address: string;
  readonly connections: number;
  /** New connections are made with this; open ones stay, but for those of peers that are revoked now. */
  useIdentity(identity: TransportIdentity): void;
  /** Takes no new connection, lets open channels end within the grace time, then closes all. */
  close(graceMs: number): Promise<void>;
}

/** A connection that this side opened. */
export interface Connection {
  readonly peer: Peer;
  /** @throws OperationError or NotTrustedError when the connection is over. */
  open(): Promise<FrameChannel>;
  close(): Promise<void>;
}

/** Where a node is, and what it has to show. */
export interface DialTarget {
  readonly host: string;
  readonly port: number;
  /** The node's id when it is known: another node there is refused. */
  readonly nodeId?: string | undefined;
}

/** Frames between machines, or between programs of one. */
export interface Transport {
  /** @throws HostLacksError when the address cannot be used. */
  listen(address: string, service: ConnectionService): Promise<Listener>;
  /** @throws NotTrustedError when either side does not trust the other; OperationError when there is no answer. */
  dial(target: DialTarget, signal: AbortSignal): Promise<Connection>;
}
