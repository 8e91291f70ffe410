/** What a peer may cost this side. A peer is never trusted to be fair, also when it is known. */
export interface TransportLimits {
  readonly maxConnections: number;
  /** Connections of one address whose handshake is not over. */
  readonly maxHandshakesPerAddress: number;
  /** Channels of one connection at once. */
  readonly maxChannels: number;
  readonly maxFrameBytes: number;
  /** Bytes of unfinished frames of all connections together. */
  readonly maxPendingBytes: number;
  readonly handshakeMs: number;
  /** A connection without packets or without channels for so long is closed. */
  readonly idleMs: number;
  /** From the opening of a channel to the first byte. */
  readonly firstByteMs: number;
  /** From the first byte of a frame to its last. */
  readonly frameMs: number;
  /** How long the other side may take to take what is sent. */
  readonly sendMs: number;
  /** A connection is closed after so long, whatever it does; peers dial again. */
  readonly connectionMs: number;
}

export const defaultTransportLimits: TransportLimits = {
  maxConnections: 256,
  maxHandshakesPerAddress: 32,
  maxChannels: 64,
  maxFrameBytes: 16 * 1024 * 1024,
  maxPendingBytes: 128 * 1024 * 1024,
  handshakeMs: 10_000,
  idleMs: 60_000,
  firstByteMs: 5_000,
  frameMs: 60_000,
  sendMs: 30_000,
  connectionMs: 12 * 3_600_000,
};
