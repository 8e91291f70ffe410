import assert from "node:assert/strict";
import { test } from "node:test";
import { OperationError, UsageError } from "../../../../src/domain/errors.ts";
import { ByteChannel, type ByteStream } from "../../../../src/host/transport/byte-channel.ts";
import { defaultTransportLimits } from "../../../../src/host/transport/limits.ts";

/** A stream that brings what it is given and then nothing, and takes what it is told or nothing. */
function streamOf(
  chunks: Uint8Array[],
  write: () => Promise<void> = async () => undefined,
): ByteStream {
  return {
    read: async () => chunks.shift() ?? new Promise(() => undefined),
    write,
    end: async () => undefined,
    destroy: () => undefined,
  };
}

const never = (): Promise<void> => new Promise(() => undefined);
/** The beginning of a frame of 1000 bytes. */
const begun = Buffer.concat([Buffer.from([0, 0, 3, 232]), Buffer.alloc(500)]);

test("unfinished frames of all channels together are bounded, and what was held is given back", async () => {
  const limits = { ...defaultTransportLimits, maxPendingBytes: 1200, frameMs: 50 };
  const budget = { usedBytes: 0 };
  const first = new ByteChannel(streamOf([begun]), limits, budget);
  const second = new ByteChannel(streamOf([begun]), limits, budget);
  const third = new ByteChannel(streamOf([begun]), limits, budget);
  const late = Promise.allSettled([first.receive(), second.receive()]);
  await assert.rejects(third.receive(), /too many frames are unfinished/);
  await late;
  for (const channel of [first, second, third]) channel.abort();
  assert.equal(budget.usedBytes, 0);
});

test("who sends a byte now and then has no more time for a frame than who sends none", async () => {
  const limits = { ...defaultTransportLimits, frameMs: 100 };
  const slow: ByteStream = {
    ...streamOf([]),
    read: async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      return Buffer.from([0]).subarray(0, 1);
    },
  };
  const sent = { count: 0 };
  const read = slow.read.bind(slow);
  const channel = new ByteChannel(
    {
      ...slow,
      read: async () => {
        sent.count += 1;
        // A length of 1000 first, and then a byte at a time.
        return sent.count === 1 ? Buffer.from([0, 0, 3, 232]) : read();
      },
    },
    limits,
  );
  await assert.rejects(channel.receive(), (error) => {
    assert.ok(error instanceof UsageError);
    return /did not become whole in time/.test(error.message);
  });
  assert.ok(sent.count < 20);
  channel.abort();
});

test("who takes nothing of an answer is given up", async () => {
  const limits = { ...defaultTransportLimits, sendMs: 50 };
  const channel = new ByteChannel(streamOf([], never), limits);
  await assert.rejects(channel.send({ id: 1 }), OperationError);
  assert.equal(channel.signal.aborted, true);
});
