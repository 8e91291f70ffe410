import { type MvmError, OperationError, UsageError } from "../../domain/errors.ts";
import type { FrameChannel } from "../../ports/transport.ts";
import { FrameDecoder, encodeFrame } from "../../protocol/frames.ts";
import type { TransportLimits } from "./limits.ts";

/** Bytes in order, both ways, each direction ended on its own. What breaks is told as an OperationError. */
export interface ByteStream {
  /** The next bytes, or undefined at the end. */
  read(): Promise<Uint8Array | undefined>;
  /** Answers when the other side's window, or the kernel, has taken them. */
  write(bytes: Uint8Array): Promise<void>;
  end(): Promise<void>;
  /** Gives both directions up. Never throws. */
  destroy(): void;
}

/** Bytes of unfinished frames that all channels of a listener hold together. */
export interface PendingBudget {
  usedBytes: number;
}

/** Frames on a stream of bytes, with limits on their size and on the time they take. */
export class ByteChannel implements FrameChannel {
  readonly #bytes: ByteStream;
  readonly #limits: TransportLimits;
  readonly #budget: PendingBudget;
  readonly #decoder: FrameDecoder;
  readonly #gone = new AbortController();
  #values: unknown[] = [];
  #heldBytes = 0;
  #started = false;

  constructor(
    bytes: ByteStream,
    limits: TransportLimits,
    budget: PendingBudget = { usedBytes: 0 },
  ) {
    this.#bytes = bytes;
    this.#limits = limits;
    this.#budget = budget;
    this.#decoder = new FrameDecoder(limits.maxFrameBytes);
  }

  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  async receive(patient = false): Promise<unknown> {
    const { firstByteMs, frameMs } = this.#limits;
    const until = Date.now() + frameMs;
    while (this.#values.length === 0) {
      const timeoutMs = this.#started ? until - Date.now() : Math.min(firstByteMs, frameMs);
      const late = (): MvmError =>
        new UsageError(
          this.#started ? "a frame did not become whole in time" : "nothing was sent in time",
        );
      const chunk = await this.#within(this.#bytes.read(), patient ? undefined : timeoutMs, late);
      if (chunk === undefined) {
        if (this.#decoder.pendingBytes > 0) throw new UsageError("a frame ended in its middle");
        return undefined;
      }
      this.#started = true;
      this.#take(chunk);
    }
    return this.#values.shift();
  }

  async send(value: unknown): Promise<void> {
    const frame = encodeFrame(value, this.#limits.maxFrameBytes);
    await this.#push(this.#bytes.write(frame));
  }

  async end(): Promise<void> {
    try {
      await this.#push(this.#bytes.end());
    } catch (error) {
      // The other side left before it had read all: that is its business.
      if (!(error instanceof OperationError)) throw error;
    }
    this.#release();
  }

  abort(): void {
    this.#bytes.destroy();
    this.leave();
  }

  /** The other side is gone. */
  leave(): void {
    this.#release();
    this.#gone.abort(new OperationError("the other side is gone"));
  }

  #take(chunk: Uint8Array): void {
    try {
      for (const value of this.#decoder.push(chunk)) this.#values.push(value);
    } catch (error) {
      if (!(error instanceof OperationError)) throw error;
      throw new UsageError(error.message);
    }
    this.#budget.usedBytes += this.#decoder.pendingBytes - this.#heldBytes;
    this.#heldBytes = this.#decoder.pendingBytes;
    if (this.#budget.usedBytes > this.#limits.maxPendingBytes) {
      throw new UsageError("too many frames are unfinished at once");
    }
  }

  /** Who takes nothing more is given up: there is no telling it. */
  async #push(work: Promise<void>): Promise<void> {
    const { sendMs } = this.#limits;
    try {
      await this.#within(
        work,
        sendMs,
        () => new OperationError(`the other side took nothing within ${sendMs / 1000} s`),
      );
    } catch (error) {
      this.abort();
      throw error;
    }
  }

  #release(): void {
    this.#budget.usedBytes -= this.#heldBytes;
    this.#heldBytes = 0;
    this.#decoder.reset();
  }

  async #within<T>(
    work: Promise<T>,
    timeoutMs: number | undefined,
    late: () => MvmError,
  ): Promise<T> {
    // Whichever comes second must not be an unhandled rejection.
    work.catch(() => undefined);
    if (this.#gone.signal.aborted) throw new OperationError("the channel is over");
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => undefined);
    const timer =
      timeoutMs === undefined
        ? undefined
        : setTimeout(() => reject(late()), Math.max(0, timeoutMs));
    const onGone = (): void => reject(new OperationError("the other side is gone"));
    this.#gone.signal.addEventListener("abort", onGone, { once: true });
    try {
      return await Promise.race([work, promise]);
    } finally {
      clearTimeout(timer);
      this.#gone.signal.removeEventListener("abort", onGone);
    }
  }
}
