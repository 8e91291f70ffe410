import type { Socket } from "node:net";
import { OperationError } from "../../domain/errors.ts";
import { FrameDecoder, encodeFrame } from "../../protocol/frames.ts";

const headerBytes = 4;

/** Frames on a stream socket, read one by one, so that a connection can go on as plain bytes after any of them. */
export class FramedSocket {
  readonly socket: Socket;
  readonly #decoder = new FrameDecoder();
  #rest: Buffer = Buffer.alloc(0);
  #failure: Error | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    // Kept for whoever reads next; without a listener it would end the process.
    socket.on("error", (error) => {
      this.#failure ??= error;
    });
  }

  /** Why the connection broke, when it did. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  send(value: unknown): void {
    if (!this.socket.destroyed) this.socket.write(encodeFrame(value));
  }

  /** The next frame; undefined when the other side has ended. @throws OperationError when what came is no frame. */
  async next(): Promise<{ readonly value: unknown } | undefined> {
    const header = await this.#bytes(headerBytes);
    if (header === undefined) return undefined;
    const length = header.readUInt32BE(0);
    for (const value of this.#decoder.push(header)) return { value };
    // An empty body would be no JSON, and the decoder has said so.
    const body = await this.#bytes(length);
    if (body === undefined) return undefined;
    for (const value of this.#decoder.push(body)) return { value };
    throw new OperationError("a frame did not end where it said");
  }

  /** The socket from here on as plain bytes, those included that came with the last frame. */
  release(): Socket {
    if (this.#rest.length > 0) this.socket.unshift(this.#rest);
    this.#rest = Buffer.alloc(0);
    return this.socket;
  }

  async #bytes(count: number): Promise<Buffer | undefined> {
    const chunks = [this.#rest];
    let size = this.#rest.length;
    while (size < count) {
      // All there is: a listener for more would be called at once while some is left.
      const chunk = this.socket.read() as Buffer | null;
      if (chunk !== null) {
        chunks.push(chunk);
        size += chunk.length;
      } else if (this.socket.destroyed || this.socket.readableEnded) {
        this.#rest = Buffer.concat(chunks);
        return undefined;
      } else await this.#moreOrEnd();
    }
    const bytes = Buffer.concat(chunks);
    this.#rest = bytes.subarray(count);
    return bytes.subarray(0, count);
  }

  #moreOrEnd(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const events = ["readable", "end", "close"] as const;
    const done = (): void => {
      for (const event of events) this.socket.off(event, done);
      resolve();
    };
    for (const event of events) this.socket.on(event, done);
    return promise;
  }
}
