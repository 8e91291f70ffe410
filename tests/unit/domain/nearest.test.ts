import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { hintOfNames, nearestName } from "../../../src/domain/nearest.ts";

const name = fc.string({
  unit: fc.constantFrom("a", "b", "1", "-", "/"),
  minLength: 1,
  maxLength: 12,
});

test("a slip leads to the name that was meant", () => {
  const names = ["demo/gateways", "demo/workers", "demo/web"];
  for (const [given, meant] of [
    ["demo/worker", "demo/workers"],
    ["dmeo/workers", "demo/workers"],
    ["demo/wrokesr", "demo/workers"],
    ["demo/wev", "demo/web"],
    ["demo/gatways", "demo/gateways"],
  ] as const) {
    assert.equal(nearestName(given, names), meant);
  }
});

test("what is no slip leads nowhere", () => {
  assert.equal(nearestName("nobody", ["acme", "zenith"]), undefined);
  assert.equal(nearestName("i-0badc0de", ["i-12345678"]), undefined);
  assert.equal(nearestName("x", []), undefined);
  assert.equal(nearestName("a", ["bc"]), undefined);
});

test("the nearest of several is named, and the first of equals", () => {
  assert.equal(nearestName("demo-3", ["demo-11", "demo-1", "demo-2"]), "demo-1");
  assert.equal(nearestName("i-00000012", ["i-00000010", "i-00000013", "i-00000021"]), "i-00000010");
});

test("one slip of any kind, anywhere in a name, leads back to it", () => {
  const slip = fc.tuple(name, fc.nat(), fc.constantFrom("lost", "added", "wrong", "swapped"));
  fc.assert(
    fc.property(slip, ([meant, place, kind]) => {
      const at = place % meant.length;
      const [head, here, next, tail] = [
        meant.slice(0, at),
        meant.slice(at, at + 1),
        meant.slice(at + 1, at + 2),
        meant.slice(at + 2),
      ];
      const given = {
        lost: head + next + tail,
        added: `${head}x${here}${next}${tail}`,
        wrong: `${head}x${next}${tail}`,
        swapped: head + next + here + tail,
      }[kind];
      assert.equal(nearestName(given, [meant]), meant);
    }),
  );
});

test("a name that is there is its own nearest, and distance is the same both ways", () => {
  fc.assert(
    fc.property(name, name, (a, b) => {
      assert.equal(nearestName(a, [b, a]), a);
      assert.equal(nearestName(a, [b]) === undefined, nearestName(b, [a]) === undefined);
    }),
  );
});

test("a hint names what was meant and where all names are", () => {
  assert.equal(
    hintOfNames("acne", ["acme"], "mvm tenant list"),
    "did you mean acme? See: mvm tenant list",
  );
  assert.equal(hintOfNames("nobody", ["acme"], "mvm tenant list"), "see: mvm tenant list");
});
