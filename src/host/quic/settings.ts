import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { QUICClientCrypto, QUICConfig, QUICServerCrypto, QUICSocket } from "@infisical/quic";
import type { TransportIdentity } from "../../ports/transport.ts";
import type { TransportLimits } from "../transport/limits.ts";

/** What both sides say they speak (RFC 7301): nothing else listens on the port of a node. */
const applicationProtocol = "mvm/1";
const keepAliveMs = 15_000;
const streamWindowBytes = 1024 * 1024;

type Logger = NonNullable<ConstructorParameters<typeof QUICSocket>[0]["logger"]>;
const quiet = (): void => undefined;
/** What the library calls of its logger; without one it writes a line to standard error for each stream. */
const nothing = {
  getChild: (): Logger => silentLogger,
  debug: quiet,
  info: quiet,
  warn: quiet,
  error: quiet,
};
export const silentLogger: Logger = nothing as unknown as Logger;

/** TLS and flow control of one side. TLS 1.3 is the only one that QUIC has (RFC 9001, 4.2). */
export function quicConfig(
  identity: TransportIdentity,
  limits: TransportLimits,
): Partial<QUICConfig> & { readonly key: string; readonly cert: string } {
  return {
    key: identity.keyPem,
    cert: identity.certificatePem,
    ca: identity.caPem,
    verifyPeer: true,
    // Early data can be sent twice by whoever saw it.
    enableEarlyData: false,
    applicationProtos: [applicationProtocol],
    maxIdleTimeout: limits.idleMs,
    initialMaxStreamsBidi: limits.maxChannels,
    initialMaxStreamsUni: 0,
    initialMaxStreamDataBidiLocal: streamWindowBytes,
    initialMaxStreamDataBidiRemote: streamWindowBytes,
    initialMaxStreamDataUni: 0,
    readableChunkSize: 64 * 1024,
  };
}

/** What only the side that dials sets: it keeps its connection alive for as long as it has it. */
export const clientConfig: Partial<QUICConfig> = { keepAliveIntervalTime: keepAliveMs };

/** Signs the tokens that prove a peer's address, with a key that lives as long as the listener. */
export function serverCrypto(): QUICServerCrypto {
  const key = randomBytes(32);
  return {
    key: arrayBuffer(key),
    ops: {
      sign: async (_, data) => arrayBuffer(mac(key, data)),
      verify: async (_, data, signature) => {
        const expected = mac(key, data);
        const given = Buffer.from(new Uint8Array(signature));
        return given.length === expected.length && timingSafeEqual(given, expected);
      },
    },
  };
}

export const clientCrypto: QUICClientCrypto = {
  ops: {
    randomBytes: async (data) => {
      globalThis.crypto.getRandomValues(new Uint8Array(data));
    },
  },
};

function mac(key: Buffer, data: ArrayBuffer): Buffer {
  return createHmac("sha256", key).update(new Uint8Array(data)).digest();
}

function arrayBuffer(bytes: Buffer): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}
