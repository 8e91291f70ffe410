import { QUICClient, type QUICStream } from "@infisical/quic";
import { defaultTransportLimits } from "../../src/host/transport/limits.ts";
import { clientCrypto, quicConfig, silentLogger } from "../../src/host/quic/settings.ts";
import type { TransportIdentity } from "../../src/ports/transport.ts";
import { FrameDecoder } from "../../src/protocol/frames.ts";

/** A peer that is verified and then sends whatever bytes it likes. */
export class RawPeer {
  readonly #client: QUICClient;

  private constructor(client: QUICClient) {
    this.#client = client;
    client.addEventListener("EventQUICClientClose", () => undefined);
  }

  static async connect(port: number, identity: TransportIdentity): Promise<RawPeer> {
    const client = await QUICClient.createQUICClient({
      host: "127.0.0.1",
      port,
      serverName: "node.mvm",
      crypto: clientCrypto,
      logger: silentLogger,
      config: quicConfig(identity, defaultTransportLimits),
    });
    return new RawPeer(client);
  }

  /** A new stream; how it ends concerns nobody. */
  stream(): QUICStream {
    return this.#client.connection.newStream();
  }

  /** Sends bytes on a stream of their own and reads the first frame that comes back, or undefined. */
  async exchange(bytes: Uint8Array): Promise<unknown> {
    const stream = this.stream();
    const writer = stream.writable.getWriter();
    writer.closed.catch(() => undefined);
    // The node may stop reading in the middle.
    writer.write(bytes).catch(() => undefined);
    const decoder = new FrameDecoder();
    const reader = stream.readable.getReader();
    reader.closed.catch(() => undefined);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return undefined;
      for (const frame of decoder.push(value)) {
        stream.cancel();
        return frame;
      }
    }
  }

  async close(): Promise<void> {
    await this.#client.destroy({ force: true });
  }
}
