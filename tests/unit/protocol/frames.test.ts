import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { OperationError, UsageError } from "../../../src/domain/errors.ts";
import { FrameDecoder, encodeFrame } from "../../../src/protocol/frames.ts";

/** The stream cut at random places. */
function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  let rest = bytes;
  for (const size of sizes) {
    chunks.push(rest.subarray(0, size));
    rest = rest.subarray(size);
  }
  return [...chunks, rest];
}

void test("values come out as they went in, however the stream is cut", () => {
  const values = fc.array(fc.jsonValue({ noUnicodeString: false }), { maxLength: 8 });
  fc.assert(
    fc.property(values, fc.array(fc.nat(40), { maxLength: 60 }), (sent, sizes) => {
      const stream = Buffer.concat(sent.map((value) => encodeFrame(value)));
      const decoder = new FrameDecoder();
      const received: unknown[] = [];
      for (const chunk of cut(stream, sizes)) {
        for (const value of decoder.push(chunk)) received.push(value);
      }
      assert.deepEqual(received, JSON.parse(JSON.stringify(sent)));
      assert.equal(decoder.pendingBytes, 0);
    }),
  );
});

void test("random bytes give values or an OperationError, and hold no more than they brought", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 }), (chunks) => {
      const decoder = new FrameDecoder(1024);
      let total = 0;
      try {
        for (const chunk of chunks) {
          total += chunk.length;
          for (const value of decoder.push(chunk)) void value;
          assert.ok(decoder.pendingBytes <= Math.min(total, 1024 + 4 + 200));
        }
      } catch (error) {
        assert.ok(error instanceof OperationError);
      }
    }),
    { numRuns: 500 },
  );
});

void test("a length of 4 GiB is refused before its bytes arrive", () => {
  const decoder = new FrameDecoder();
  assert.throws(() => [...decoder.push(Buffer.from([255, 255, 255, 255]))], /over the limit/);
  assert.equal(decoder.pendingBytes, 0);
});

void test("after an error nothing is read until reset", () => {
  const decoder = new FrameDecoder();
  const bad = Buffer.concat([Buffer.from([0, 0, 0, 1]), Buffer.from("{"), encodeFrame("next")]);
  assert.throws(() => [...decoder.push(bad)], OperationError);
  assert.throws(() => [...decoder.push(encodeFrame(1))], OperationError);
  decoder.reset();
  assert.deepEqual([...decoder.push(encodeFrame(1))], [1]);
});

void test("bytes that are not UTF-8 are refused", () => {
  const decoder = new FrameDecoder();
  assert.throws(
    () => [...decoder.push(Buffer.from([0, 0, 0, 3, 0x22, 0xff, 0x22]))],
    /not JSON in UTF-8/,
  );
});

void test("a frame over the limit is not sent", () => {
  assert.throws(() => encodeFrame("x".repeat(100), 50), UsageError);
  assert.throws(() => encodeFrame(undefined), UsageError);
});
