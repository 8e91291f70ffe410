import { AsyncLocalStorage } from "node:async_hooks";
import { type QUICConnection, QUICConnectionId, QUICSocket, native } from "@infisical/quic";
import { silentLogger } from "./settings.ts";

/** Who sent a UDP packet. */
interface Sender {
  readonly address: string;
}

/** The library's map of connections. */
interface KnownConnections {
  readonly size: number;
  readonly serverConnections: ReadonlyMap<string, QUICConnection>;
  has(id: QUICConnectionId): boolean;
}

/** What stands before the QUIC implementation, and what it has turned away. */
export interface PacketGuard {
  /** Whether a first packet of an unknown connection from this address may begin one. */
  mayBegin(address: string): boolean;
  /** A packet made the implementation throw. Nobody else is told. */
  onFault(error: unknown): void;
}

const { quiche } = native;
type Header = ReturnType<typeof quiche.Header.fromSlice>;

/**
 * A UDP socket for QUIC that no packet can end the process through. The library's own handler is not
 * awaited by anybody, so what it throws would be an unhandled rejection; and it reads the token of
 * packets that have none, such as those of early data (RFC 9001, 4.6), which are not taken here at all.
 */
export class GuardedSocket extends QUICSocket {
  readonly #sender = new AsyncLocalStorage<string>();

  constructor(guard: PacketGuard) {
    super({ logger: silentLogger });
    const handle = this.handleSocketMessage;
    this.handleSocketMessage = async (data, sender) => {
      try {
        if (!this.#isWelcome(data, sender, guard)) return;
        await this.#sender.run(sender.address, () => handle(data, sender));
      } catch (error) {
        // Whatever it is, it came of one packet of somebody unknown: the packet is dropped.
        guard.onFault(error);
      }
    };
  }

  /** Whose packet is being handled; undefined outside of that. */
  get sender(): string | undefined {
    return this.#sender.getStore();
  }

  /** The connections of this socket, those in their handshake included. The library keeps them out of its types. */
  get known(): KnownConnections {
    return (this as unknown as { readonly connectionMap: KnownConnections }).connectionMap;
  }

  #isWelcome(data: Buffer, sender: Sender, guard: PacketGuard): boolean {
    const header = readHeader(data);
    if (header === undefined || header.ty === native.Type.ZeroRTT) return false;
    if (this.known.has(new QUICConnectionId(header.dcid))) return true;
    // Only an Initial packet begins a connection; after its token proved the address it comes again.
    return header.ty === native.Type.Initial && guard.mayBegin(sender.address);
  }
}

function readHeader(data: Buffer): Header | undefined {
  try {
    return quiche.Header.fromSlice(data, quiche.MAX_CONN_ID_LEN);
  } catch (error) {
    // The native code has one class of error, and each of them says that this is no QUIC packet.
    if (error instanceof Error) return undefined;
    throw error;
  }
}
