import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ConflictError,
  HostLacksError,
  MvmError,
  NotFoundError,
  OperationError,
  UsageError,
} from "../../../src/domain/errors.ts";
import { QuotaError } from "../../../src/domain/quota.ts";
import {
  exitCodeOf,
  InterruptedError,
  normalizeExitCode,
  renderError,
} from "../../../src/cli/exit-codes.ts";
import { age, table } from "../../../src/cli/output.ts";
import { parseInstanceName, wholeNumber } from "../../../src/cli/parameters.ts";

const excess = { quota: "max_warm", limit: 1, used: 1, asked: 1 } as const;

test("each kind of failure ends with its own exit code", () => {
  const codes = [
    new OperationError("x"),
    new UsageError("x"),
    new NotFoundError("x"),
    new ConflictError("x"),
    new QuotaError("acme", excess),
    new MvmError("not_trusted", "x"),
    new HostLacksError("x"),
  ].map(exitCodeOf);
  assert.deepEqual(codes, [1, 2, 3, 4, 5, 6, 7]);
  assert.equal(exitCodeOf(new TypeError("a defect")), 1);
});

test("a word that is not understood ends with 2, whatever number the parser gives it", () => {
  assert.deepEqual([-5, -4, 0, 3, undefined, null].map(normalizeExitCode), [2, 2, 0, 3, 0, 0]);
});

test("an error says what failed and what to do next, also when only its cause knows", () => {
  const inner = new HostLacksError("dnsmasq is not installed", { hint: "run `mvm add host`" });
  const outer = new OperationError("cannot change the network", { cause: inner });
  assert.equal(
    renderError(outer),
    "mvm: cannot change the network: dnsmasq is not installed\n  next: run `mvm add host`",
  );
});

test("a defect is called one and shows where it happened", () => {
  assert.match(
    renderError(new TypeError("x is undefined")),
    /defect in mvm.*\n.*x is undefined\n\s+at /,
  );
});

test("work that the operator ended is no defect, whoever says so", () => {
  const left = new InterruptedError("interrupted by SIGINT");
  assert.equal(renderError(left), "mvm: interrupted by SIGINT");
  const aborted = new DOMException("The operation was aborted", "AbortError");
  assert.match(renderError(aborted), /this is a defect/, "nobody left");
  Object.defineProperty(aborted, "cause", { value: left });
  assert.equal(renderError(aborted), "mvm: interrupted by SIGINT");
});

test("a table's columns are as wide as their widest cell, without spaces at the end", () => {
  assert.equal(
    table(["A", "LONG"], [["wide", "x"], ["y"]]),
    ["A     LONG", "wide  x", "y"].join("\n"),
  );
});

test("ages are told in seconds, minutes, hours and days", () => {
  const nowMs = Date.parse("2026-01-10T00:00:00Z");
  const ages = [0, 59, 60, 3599, 3600, 7500, 172_799, 172_800].map((seconds) =>
    age(new Date(nowMs - seconds * 1000).toISOString(), nowMs),
  );
  assert.deepEqual(ages, [
    "0 s",
    "59 s",
    "1 min",
    "59 min",
    "1 h 0 min",
    "2 h 5 min",
    "47 h 59 min",
    "2 d",
  ]);
  assert.equal(age(null, nowMs), "-");
  assert.equal(age("2026-01-11T00:00:00Z", nowMs), "0 s");
});

test("a number is whole, in digits and within its bounds", () => {
  const parse = wholeNumber(1, 100);
  assert.equal(parse("1"), 1);
  assert.equal(parse("100"), 100);
  for (const text of ["0", "101", "1.5", "1e1", "-1", "+1", " 1", "", "0x10", "٣"]) {
    assert.throws(() => parse(text), UsageError, text);
  }
});

test("an instance is named by its address or by its id alone", () => {
  assert.deepEqual(parseInstanceName("i-00000001"), { id: "i-00000001" });
  assert.deepEqual(parseInstanceName("a/b/i-00000001"), {
    tenant: "a",
    pool: "b",
    instance: "i-00000001",
  });
  assert.throws(() => parseInstanceName("a/b"), UsageError);
});
