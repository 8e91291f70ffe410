import assert from "node:assert/strict";
import { test } from "node:test";
import { ConflictError } from "../../../src/domain/errors.ts";
import {
  type InstanceStatus,
  assertTransition,
  canTransition,
  instanceStatuses,
} from "../../../src/domain/lifecycle.ts";

/** The lifecycle as the specification draws it, written down a second time. */
const specified = new Set([
  "created → ready",
  "ready → running",
  "stopped → running",
  "running → warm",
  "warm → running",
  "running → sleeping",
  "warm → sleeping",
  "sleeping → running",
  "running → stopped",
  "warm → stopped",
  "sleeping → stopped",
  "running → failed",
  "warm → failed",
  "failed → running",
  "failed → stopped",
  ...["created", "ready", "running", "warm", "sleeping", "stopped", "failed"].map(
    (from) => `${from} → destroyed`,
  ),
]);

const pairs = instanceStatuses.flatMap((from) =>
  instanceStatuses.map((to): [InstanceStatus, InstanceStatus] => [from, to]),
);

for (const [from, to] of pairs) {
  const transition = `${from} → ${to}`;
  const isAllowed = specified.has(transition);
  test(`${transition} is ${isAllowed ? "allowed" : "refused"}`, () => {
    assert.equal(canTransition(from, to), isAllowed);
    if (isAllowed) assertTransition("acme/web/i-00000001", from, to);
    else assert.throws(() => assertTransition("acme/web/i-00000001", from, to), ConflictError);
  });
}

test("a refusal names the instance, both states and what is allowed", () => {
  assert.throws(
    () => assertTransition("acme/web/i-00000001", "stopped", "warm"),
    (error) => {
      assert.ok(error instanceof ConflictError);
      assert.equal(error.message, "acme/web/i-00000001 is stopped and cannot become warm");
      assert.equal(error.hint, "from stopped it can become: running, destroyed");
      return true;
    },
  );
});

test("nothing follows destroyed, and the refusal says so", () => {
  assert.throws(() => assertTransition("i", "destroyed", "running"), {
    hint: "nothing follows destroyed",
  });
});
