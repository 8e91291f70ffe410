import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  ConflictError,
  HostLacksError,
  MvmError,
  NotFoundError,
  OperationError,
  UsageError,
  describeError,
  isSystemError,
} from "../../../src/domain/errors.ts";

test("each class of error has the code of its kind of failure", () => {
  const codes = [UsageError, NotFoundError, ConflictError, HostLacksError, OperationError].map(
    (kind) => {
      const error = new kind("why", { hint: "do this" });
      assert.ok(error instanceof MvmError);
      assert.equal(error.name, kind.name);
      assert.equal(error.hint, "do this");
      return error.code;
    },
  );
  assert.deepEqual(codes, ["usage", "not_found", "conflict", "host_lacks", "failed"]);
});

test("an error is described with its causes, outermost first", () => {
  const inner = new Error("connection refused");
  const middle = new OperationError("the agent does not answer", { cause: inner });
  const outer = new OperationError("cannot start i-1", { cause: middle });
  assert.equal(
    describeError(outer),
    "cannot start i-1: the agent does not answer: connection refused",
  );
});

test("a cause that the message quotes already is not said twice", () => {
  const inner = new Error("disk full");
  assert.equal(
    describeError(new OperationError("write failed: disk full", { cause: inner })),
    "write failed: disk full",
  );
});

test("a cause that leads back to itself does not describe forever", () => {
  const error = new Error("loop");
  error.cause = error;
  assert.equal(describeError(error), "loop");
});

test("what was thrown and is no error is described too", () => {
  assert.equal(describeError({ code: 5 }), '{"code":5}');
  assert.equal(describeError("text"), '"text"');
});

test("what a system call said is told from a defect", () => {
  assert.throws(() => readFileSync("/nonexistent"), isSystemError);
  assert.ok(!isSystemError(new TypeError("x is not a function")));
  assert.ok(!isSystemError(Object.assign(new TypeError("bad"), { code: "ERR_INVALID_ARG_TYPE" })));
  assert.ok(!isSystemError({ code: "ENOENT", syscall: "open" }));
});
