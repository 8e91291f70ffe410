import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { TokenBuckets } from "../../../../src/node/agent/token-bucket.ts";

const limit = { perSecond: 10, burst: 100 };

test("a peer may ask its burst at once, and then at its rate", () => {
  const buckets = new TokenBuckets(limit);
  for (let count = 0; count < 100; count += 1) assert.equal(buckets.take("a", 0), 0);
  assert.equal(buckets.take("a", 0), 100);
  assert.ok(buckets.take("a", 90) > 0);
  assert.equal(buckets.take("a", 110), 0);
  assert.ok(buckets.take("a", 110) > 0);
});

test("one peer's asking takes nothing from another", () => {
  const buckets = new TokenBuckets(limit);
  for (let count = 0; count < 200; count += 1) buckets.take("a", 0);
  assert.equal(buckets.take("b", 0), 0);
});

test("a clock that goes back gives no tokens", () => {
  const buckets = new TokenBuckets({ perSecond: 1, burst: 1 });
  assert.equal(buckets.take("a", 1_000_000), 0);
  assert.ok(buckets.take("a", 0) > 0);
  assert.ok(buckets.take("a", 500) > 0);
});

test("no more are taken in any time than burst and rate give", () => {
  const steps = fc.array(fc.nat(500), { maxLength: 200 });
  fc.assert(
    fc.property(
      steps,
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 20 }),
      (waits, perSecond, burst) => {
        const buckets = new TokenBuckets({ perSecond, burst });
        let nowMs = 0;
        let taken = 0;
        for (const wait of waits) {
          nowMs += wait;
          if (buckets.take("a", nowMs) === 0) taken += 1;
        }
        assert.ok(taken <= burst + (nowMs / 1000) * perSecond + 1e-9);
      },
    ),
  );
});

test("peers that were quiet are forgotten, and those that were not keep their debt", () => {
  const buckets = new TokenBuckets({ perSecond: 1, burst: 1 });
  buckets.take("busy", 0);
  for (let count = 0; count < 10_001; count += 1) buckets.take(`quiet ${count}`, 0);
  assert.ok(buckets.take("busy", 1) > 0);
  assert.equal(buckets.take("new", 10_000), 0);
});
