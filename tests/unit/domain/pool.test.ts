import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ConflictError, NotFoundError, UsageError } from "../../../src/domain/errors.ts";
import { parseProfile } from "../../../src/domain/pool-limits.ts";
import { findRevision, withCurrentRevision } from "../../../src/domain/pool.ts";

const [one, two, three] = ["1a", "1b", "2"].map((start) => start.padEnd(64, "0")) as [
  string,
  string,
  string,
];

describe("the images of a pool", () => {
  test("have the current one first and keep the order of the others", () => {
    assert.deepEqual(withCurrentRevision([one, two, three], three), [three, one, two]);
    assert.deepEqual(withCurrentRevision([one, two], one), [one, two]);
    assert.deepEqual(withCurrentRevision([], one), [one]);
  });

  test("are five at most", () => {
    const five = ["3", "4", "5", "6", "7"].map((start) => start.padEnd(64, "0"));
    assert.deepEqual(withCurrentRevision(five, one), [one, ...five.slice(0, 4)]);
  });

  test("are found by as much of a hash as only one begins with", () => {
    assert.equal(findRevision([one, two, three], one), one);
    assert.equal(findRevision([one, two, three], "2"), three);
    assert.throws(() => findRevision([one, two, three], "1"), ConflictError);
    assert.throws(() => findRevision([one], "f"), NotFoundError);
    assert.throws(() => findRevision([], "f"), /no image f/);
  });
});

test("a profile is a name that a package of a flake can have", () => {
  for (const name of ["minimal", "x86_64-debug", "1"]) assert.equal(parseProfile(name), name);
  for (const name of ["", "a b", "a\nb", "../x", "-x", "a#b", "x".repeat(65)]) {
    assert.throws(() => parseProfile(name), UsageError, JSON.stringify(name));
  }
});
