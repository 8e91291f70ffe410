import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { UsageError } from "../../../src/domain/errors.ts";
import { guestMessageSchema } from "../../../src/protocol/guest-messages.ts";
import { parseGuestRequest, requestIdOf } from "../../../src/protocol/guest-requests.ts";
import { plainLine } from "../../../src/protocol/plain-text.ts";

void test("an unknown operation is refused by name", () => {
  assert.throws(() => parseGuestRequest({ id: 1, op: "Format" }), /unknown operation "Format"/);
  assert.throws(() => parseGuestRequest({ id: 1, op: "constructor" }), /unknown operation/);
});

void test("an unknown field is refused by name", () => {
  assert.throws(() => parseGuestRequest({ id: 1, op: "Ping", extra: 1 }), /Ping: .*extra/);
});

void test("anything at all gives a request or a UsageError", () => {
  fc.assert(
    fc.property(fc.anything(), (value) => {
      requestIdOf(value);
      assert.throws(() => parseGuestRequest(value), UsageError);
    }),
  );
});

void test("a guest's message has exactly one of the three forms", () => {
  const accepts = (value: unknown): boolean => guestMessageSchema.safeParse(value).success;
  assert.ok(accepts({ id: 1, ok: true, result: {} }));
  assert.ok(accepts({ id: 1, error: { code: "failed", message: "no" } }));
  assert.ok(accepts({ id: 1, progress: { stream: "stdout", data: "aGk=" } }));
  assert.ok(!accepts({ id: 1, ok: true, result: {}, error: { code: "a", message: "b" } }));
  assert.ok(!accepts({ id: -1, ok: true, result: {} }));
  assert.ok(!accepts({ id: 1, progress: { stream: "stdout", data: "%%%" } }));
  assert.ok(!accepts({ id: 1, progress: { stream: "stdout", data: "A".repeat(100_000) } }));
});

void test("a line of a guest loses what a terminal would obey", () => {
  assert.equal(plainLine("\u001B[31mred\u001B[0m\u0007\ttab\u009B2J"), "red\ttab2J");
});
