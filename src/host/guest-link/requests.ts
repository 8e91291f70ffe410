import type { Duplex } from "node:stream";
import type * as z from "zod/mini";
import { ConflictError, MvmError, NotFoundError, OperationError } from "../../domain/errors.ts";
import { FrameDecoder, encodeFrame } from "../../protocol/frames.ts";
import { guestMessageSchema, maxGuestFrameBytes } from "../../protocol/guest-messages.ts";
import type { ExecProgress, GuestFailure } from "../../protocol/guest-messages.ts";
import type { GuestRequest } from "../../protocol/guest-requests.ts";
import { plainLine } from "../../protocol/plain-text.ts";
import { maxUnsentBytes } from "./limits.ts";
import type { GuestLinkLimits } from "./limits.ts";

/** A request of the table, without its id. */
export type RequestBody = GuestRequest extends infer R
  ? R extends GuestRequest
    ? Omit<R, "id">
    : never
  : never;

export interface RequestOptions<T> {
  readonly schema: z.ZodMiniType<T>;
  readonly timeoutMs: number;
  readonly onProgress?: (progress: ExecProgress) => void;
}

export interface StartedRequest<T> {
  readonly id: number;
  readonly answer: Promise<T>;
}

interface Pending {
  readonly op: string;
  readonly timer: NodeJS.Timeout;
  readonly onProgress: ((progress: ExecProgress) => void) | undefined;
  readonly onResult: (result: unknown) => void;
  readonly onError: (error: MvmError) => void;
}

const rateWindowMs = 100;
/** How an error begins that a guest answered with. */
export const inTheGuest = "in the guest: ";

/**
 * Requests and answers on a channel whose `Hello` is done. A guest that breaks the form, answers
 * what was not asked, or is late ends the whole conversation: nothing after that can be trusted.
 */
export class GuestRequests {
  readonly #channel: Duplex;
  readonly #limits: GuestLinkLimits;
  readonly #decoder = new FrameDecoder(maxGuestFrameBytes);
  readonly #pending = new Map<number, Pending>();
  readonly #onEnd: () => void;
  #nextId = 1;
  #failure: MvmError | undefined;
  #windowStartMs = 0;
  #windowBytes = 0;
  #resumeTimer: NodeJS.Timeout | undefined;

  /** `onEnd` is called once, when the conversation is over for whatever reason. */
  constructor(channel: Duplex, limits: GuestLinkLimits, onEnd: () => void) {
    this.#channel = channel;
    this.#limits = limits;
    this.#onEnd = onEnd;
    channel.on("error", (cause: Error) =>
      this.end(new OperationError("the channel to the guest broke", { cause })),
    );
    const closed = (): void => this.end(new OperationError("the guest closed the channel"));
    channel.on("end", closed).on("close", closed);
    channel.on("data", (chunk: Buffer) => this.#onData(chunk));
  }

  /** Begins to read; `rest` came with the answer to `Hello`. */
  begin(rest: Buffer): void {
    this.#onData(rest);
    if (this.#failure === undefined) this.#channel.resume();
  }

  /** Sends a request. Its answer rejects with the guest's error, or when the conversation ends. */
  start<T>(body: RequestBody, options: RequestOptions<T>): StartedRequest<T> {
    const id = this.#nextId;
    this.#nextId += 1;
    if (this.#failure !== undefined) return { id, answer: Promise.reject(this.#failure) };
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const timer = setTimeout(
      () =>
        this.end(
          new OperationError(`the guest did not answer ${body.op} within ${options.timeoutMs} ms`),
        ),
      options.timeoutMs,
    );
    this.#pending.set(id, {
      op: body.op,
      timer,
      onProgress: options.onProgress,
      onResult: (result) => {
        const parsed = options.schema.safeParse(result);
        if (parsed.success) resolve(parsed.data);
        else {
          const error = new OperationError(`the guest answered ${body.op} in an unknown form`);
          reject(error);
          this.end(error);
        }
      },
      onError: reject,
    });
    this.#channel.write(encodeFrame({ id, ...body }));
    if (this.#channel.writableLength > maxUnsentBytes) {
      this.end(new OperationError("the guest does not read what it is sent"));
    }
    return { id, answer: promise };
  }

  /** Ends the conversation; what is pending fails with `error`. Only the first time counts. */
  end(error: MvmError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    clearTimeout(this.#resumeTimer);
    for (const pending of this.#pending.values()) {
      clearTimeout(pending.timer);
      pending.onError(error);
    }
    this.#pending.clear();
    this.#decoder.reset();
    this.#channel.destroy();
    this.#onEnd();
  }

  #onData(chunk: Buffer): void {
    if (this.#failure !== undefined) return;
    try {
      for (const value of this.#decoder.push(chunk)) {
        this.#onMessage(value);
        // A message may have ended the conversation, in a way TypeScript does not see.
        if (this.#ended()) return;
      }
    } catch (error) {
      // Whatever it was, nobody is left waiting for an answer.
      this.end(new OperationError("the guest broke the protocol", { cause: error }));
      if (!(error instanceof MvmError)) throw error;
      return;
    }
    this.#throttle(chunk.length);
  }

  #ended(): boolean {
    return this.#failure !== undefined;
  }

  #onMessage(value: unknown): void {
    const parsed = guestMessageSchema.safeParse(value);
    if (!parsed.success) throw new OperationError("a message is not of a known form");
    const message = parsed.data;
    const pending = this.#pending.get(message.id);
    if (pending === undefined) throw new OperationError("it answered what was not asked");
    if ("progress" in message) {
      if (pending.onProgress === undefined) {
        throw new OperationError(`${pending.op} has no progress`);
      }
      pending.onProgress(message.progress);
      return;
    }
    this.#pending.delete(message.id);
    clearTimeout(pending.timer);
    if ("error" in message) pending.onError(errorOf(message.error));
    else pending.onResult(message.result);
  }

  /** Reads no faster than the limit: the rest waits in the guest. */
  #throttle(bytes: number): void {
    const nowMs = performance.now();
    if (nowMs - this.#windowStartMs > rateWindowMs) {
      this.#windowStartMs = nowMs;
      this.#windowBytes = 0;
    }
    this.#windowBytes += bytes;
    if (this.#windowBytes < (this.#limits.maxBytesPerSecond * rateWindowMs) / 1000) return;
    this.#channel.pause();
    clearTimeout(this.#resumeTimer);
    this.#resumeTimer = setTimeout(() => this.#channel.resume(), rateWindowMs);
  }
}

/** A guest may choose among few classes: none that says something of the host. */
function errorOf(failure: GuestFailure): MvmError {
  const message = `${inTheGuest}${plainLine(failure.message)}`;
  switch (failure.code) {
    case "not_found":
      return new NotFoundError(message);
    case "conflict":
      return new ConflictError(message);
    default:
      return new OperationError(message);
  }
}
