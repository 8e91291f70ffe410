import type { ReadableStreamDefaultReader, WritableStreamDefaultWriter } from "node:stream/web";
import { type QUICStream, errors, events } from "@infisical/quic";
import { OperationError } from "../../domain/errors.ts";
import { ByteChannel, type ByteStream, type PendingBudget } from "../transport/byte-channel.ts";
import type { TransportLimits } from "../transport/limits.ts";

/** A channel of frames on a stream of QUIC. @param onOver hears once that it is over, however it went. */
export function channelOn(
  stream: QUICStream,
  limits: TransportLimits,
  budget: PendingBudget,
  onOver: () => void,
): ByteChannel {
  const channel = new ByteChannel(new StreamBytes(stream), limits, budget);
  stream.addEventListener(events.EventQUICStreamError.name, (event: Event) => {
    const error = (event as unknown as events.EventQUICStreamError).detail;
    // A peer that only reads no more may still have something to say.
    if (error instanceof errors.ErrorQUICStreamPeerRead) channel.leave();
  });
  stream.addEventListener(
    events.EventQUICStreamDestroyed.name,
    () => {
      channel.leave();
      onOver();
    },
    { once: true },
  );
  return channel;
}

/** The bytes of a stream of QUIC (RFC 9000, 2). */
class StreamBytes implements ByteStream {
  readonly #stream: QUICStream;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;

  constructor(stream: QUICStream) {
    this.#stream = stream;
    this.#reader = stream.readable.getReader();
    this.#writer = stream.writable.getWriter();
    // How a direction ends is told to who reads or writes; else it would be an unhandled rejection.
    this.#reader.closed.catch(() => undefined);
    this.#writer.closed.catch(() => undefined);
  }

  async read(): Promise<Uint8Array | undefined> {
    const { done, value } = await told(this.#reader.read());
    return done ? undefined : value;
  }

  async write(bytes: Uint8Array): Promise<void> {
    await told(this.#writer.ready);
    await told(this.#writer.write(bytes));
  }

  async end(): Promise<void> {
    await told(this.#writer.close());
    // What may still come is of no interest, and an unread stream would count as open for good.
    await told(this.#reader.cancel(new OperationError("nobody reads any more")));
  }

  destroy(): void {
    if (this.#stream.closed) return;
    try {
      this.#stream.cancel(new OperationError("given up"));
    } catch (error) {
      if (!(error instanceof errors.ErrorQUICStreamInternal)) throw error;
    }
  }
}

/** The reason a stream ended for is whatever the library was given: to this side it is one thing, that it broke. */
async function told<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw new OperationError("the stream was cut off", { cause: error });
  }
}
