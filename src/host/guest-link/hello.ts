import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { ConflictError, OperationError } from "../../domain/errors.ts";
import { encodeFrame } from "../../protocol/frames.ts";
import { guestProtocolVersion, helloAnswerSchema } from "../../protocol/guest-messages.ts";
import type { HelloAnswer } from "../../protocol/guest-messages.ts";

const maxHelloBytes = 4096;
/** What an older session may have left on the way; more is a flood. */
const maxStaleBytes = 16 * 1024 * 1024;

export interface Greeting {
  readonly hello: HelloAnswer;
  /** What came after the answer. */
  readonly rest: Buffer;
}

/**
 * Sends `Hello` with a fresh nonce and waits for its echo. What comes before it belongs to an older
 * session, maybe half a frame of it, so it is not parsed: the echo is found by its bytes, which
 * nothing older can contain. The channel is left paused, without listeners of this.
 * @throws OperationError when there is no right answer within `timeoutMs`; ConflictError when the versions differ.
 */
export async function exchangeHello(
  channel: Duplex,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<Greeting> {
  const nonce = randomBytes(16).toString("hex");
  const scanner = new HelloScanner(nonce);
  const { promise, resolve, reject } = Promise.withResolvers<Greeting>();
  const fail = (message: string) => (): void => reject(new OperationError(message));
  const onData = (chunk: Buffer): void => {
    try {
      const greeting = scanner.push(chunk);
      if (greeting !== undefined) resolve(greeting);
    } catch (error) {
      reject(error);
    }
  };
  const onError = (cause: Error): void =>
    reject(new OperationError("the channel to the guest broke", { cause }));
  const onEnd = fail("the channel to the guest was closed");
  const onAbort = fail("interrupted");
  const timer = setTimeout(
    fail(`the guest agent did not answer within ${Math.round(timeoutMs)} ms`),
    timeoutMs,
  );
  channel.on("data", onData).on("error", onError).on("end", onEnd).on("close", onEnd);
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  try {
    channel.write(
      encodeFrame({
        id: 0,
        op: "Hello",
        protocol: "mvm-guest",
        version: guestProtocolVersion,
        role: "host",
        nonce,
      }),
    );
    return await promise;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
    channel.pause();
    channel.off("data", onData).off("end", onEnd).off("close", onEnd);
    // An error event without a listener would end the process: this one stays, and does nothing now.
  }
}

/** Finds the answer to one `Hello` in a byte stream. */
class HelloScanner {
  readonly #marker: Buffer;
  readonly #nonce: string;
  #window: Buffer = Buffer.alloc(0);
  #seenBytes = 0;

  constructor(nonce: string) {
    this.#nonce = nonce;
    this.#marker = Buffer.from(`{"id":0,"ok":true,"result":{"nonce":"${nonce}"`);
  }

  push(chunk: Buffer): Greeting | undefined {
    this.#seenBytes += chunk.length;
    if (this.#seenBytes > maxStaleBytes) {
      throw new OperationError(`the guest sent ${maxStaleBytes} bytes and no answer to Hello`);
    }
    this.#window = Buffer.concat([this.#window, chunk]);
    const start = this.#window.indexOf(this.#marker);
    if (start < 0) {
      this.#window = Buffer.from(this.#window.subarray(-(this.#marker.length + 3)));
      return undefined;
    }
    if (start < 4) throw new OperationError("the guest's Hello has no length");
    const length = this.#window.readUInt32BE(start - 4);
    if (length > maxHelloBytes) throw new OperationError("the guest's Hello is too long");
    if (this.#window.length < start + length) return undefined;
    const hello = this.#parse(this.#window.subarray(start, start + length));
    return { hello, rest: Buffer.from(this.#window.subarray(start + length)) };
  }

  #parse(body: Buffer): HelloAnswer {
    let value: unknown;
    try {
      value = (JSON.parse(body.toString("utf8")) as { result: unknown }).result;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      throw new OperationError("the guest's Hello is not JSON", { cause: error });
    }
    const parsed = helloAnswerSchema.safeParse(value);
    if (!parsed.success || parsed.data.nonce !== this.#nonce) {
      throw new OperationError("the guest's Hello is not of the form agreed");
    }
    if (parsed.data.version !== guestProtocolVersion) {
      throw new ConflictError(
        `the guest agent speaks version ${parsed.data.version}, this host ${guestProtocolVersion}`,
        { hint: "build the pool's image again and restart the instance" },
      );
    }
    return parsed.data;
  }
}
