import assert from "node:assert/strict";
import { test } from "node:test";
import { Repeats } from "../../../src/node/repeats.ts";

const minuteMs = 60_000;

test("one of a kind is written at once, and equal ones a minute later with how many there were", () => {
  const repeats = new Repeats();
  assert.equal(repeats.timesToWrite("peer", "kind", 0), 1);
  for (let times = 0; times < 9; times += 1) {
    assert.equal(repeats.timesToWrite("peer", "kind", minuteMs - 1), 0);
  }
  assert.equal(repeats.timesToWrite("peer", "kind", minuteMs), 10);
});

test("a peer that thinks of a new nonsense each time writes no more than a few lines a minute", () => {
  const repeats = new Repeats();
  const minute = (from: number): number => {
    let lines = 0;
    for (let count = 0; count < 6000; count += 1) {
      const atMs = from + Math.floor((count * minuteMs) / 6000);
      if (repeats.timesToWrite("peer", `nonsense ${from + count}`, atMs) > 0) lines += 1;
    }
    return lines;
  };
  for (let nr = 0; nr < 5; nr += 1) {
    const lines = minute(nr * minuteMs);
    assert.ok(lines <= 42, `${lines} lines in minute ${nr}`);
  }
  assert.equal(repeats.timesToWrite("another", "kind", 0), 1, "nobody else is silenced by it");
});

test("a clock that was put back silences nothing", () => {
  const repeats = new Repeats();
  repeats.timesToWrite("peer", "kind", 1000 * minuteMs);
  assert.equal(repeats.timesToWrite("peer", "kind", minuteMs), 1);
});
