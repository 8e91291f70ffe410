import { OperationError, UsageError } from "../domain/errors.ts";

/** The most bytes of JSON that one frame may carry, on every connection. */
const maxFrameBytes = 16 * 1024 * 1024;

const headerBytes = 4;

/**
 * One frame: 4-byte big-endian length, then that many bytes of JSON in UTF-8.
 * @throws UsageError when the value has no JSON form or is over `maxBytes`.
 */
export function encodeFrame(value: unknown, maxBytes: number = maxFrameBytes): Buffer {
  const json = JSON.stringify(value) as string | undefined;
  if (json === undefined) throw new UsageError("this value has no JSON form");
  const length = Buffer.byteLength(json);
  if (length > maxBytes) {
    throw new UsageError(`a frame of ${length} bytes is over the limit of ${maxBytes}`);
  }
  const frame = Buffer.allocUnsafe(headerBytes + length);
  frame.writeUInt32BE(length, 0);
  frame.write(json, headerBytes, "utf8");
  return frame;
}

/**
 * Cuts a byte stream into frames, however the stream was cut into chunks.
 * It holds at most one incomplete frame: memory grows with what arrives, never with a length that
 * was only announced. After an error the stream has no known boundary: `reset` or give it up.
 */
export class FrameDecoder {
  readonly #maxBytes: number;
  #chunks: Buffer[] = [];
  #size = 0;
  #failed = false;

  constructor(maxBytes: number = maxFrameBytes) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes of an incomplete frame that are held. */
  get pendingBytes(): number {
    return this.#size;
  }

  /** Forgets an incomplete frame and any earlier failure. */
  reset(): void {
    this.#chunks = [];
    this.#size = 0;
    this.#failed = false;
  }

  /**
   * Takes the next bytes; yields the value of every frame they complete.
   * @throws OperationError for a length over the limit or a body that is not JSON in UTF-8.
   */
  *push(chunk: Uint8Array): Generator<unknown, void, undefined> {
    if (this.#failed) throw new OperationError("the stream failed before this frame");
    if (chunk.length > 0) {
      this.#chunks.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length));
      this.#size += chunk.length;
    }
    while (this.#size >= headerBytes) {
      const length = this.#peekLength();
      if (length > this.#maxBytes) {
        this.#fail(`a frame of ${length} bytes is over the limit of ${this.#maxBytes}`);
      }
      if (this.#size < headerBytes + length) return;
      yield this.#parse(this.#take(headerBytes + length).subarray(headerBytes));
    }
  }

  #peekLength(): number {
    const [first] = this.#chunks;
    // Joining costs only the few bytes of a header that arrived in pieces.
    if (first !== undefined && first.length >= headerBytes) return first.readUInt32BE(0);
    const head = this.#take(headerBytes);
    this.#chunks.unshift(head);
    this.#size += headerBytes;
    return head.readUInt32BE(0);
  }

  #take(length: number): Buffer {
    const parts: Buffer[] = [];
    let missing = length;
    let used = 0;
    for (const chunk of this.#chunks) {
      if (missing === 0) break;
      const part = chunk.subarray(0, missing);
      parts.push(part);
      missing -= part.length;
      if (part.length === chunk.length) used += 1;
      else this.#chunks[used] = chunk.subarray(part.length);
    }
    this.#chunks.splice(0, used);
    this.#size -= length;
    const [only] = parts;
    return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts, length);
  }

  #parse(body: Buffer): unknown {
    try {
      return JSON.parse(utf8.decode(body)) as unknown;
    } catch (error) {
      // A TypeError is how TextDecoder refuses bytes that are no UTF-8.
      if (!(error instanceof SyntaxError) && !(error instanceof TypeError)) throw error;
      return this.#fail("a frame is not JSON in UTF-8", error);
    }
  }

  #fail(message: string, cause?: unknown): never {
    this.reset();
    this.#failed = true;
    throw new OperationError(message, { cause });
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
