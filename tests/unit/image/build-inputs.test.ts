import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { OperationError, UsageError } from "../../../src/domain/errors.ts";
import { checkLocked, requireLocks } from "../../../src/image/build-inputs.ts";

const hash = (letter: string): string => `sha256-${letter.repeat(43)}=`;
const tools = { name: "tools", url: "path:/mvm/tools", nar_hash: hash("T") };
const lib = { name: "lib", url: "github:o/r/f00", nar_hash: hash("L") };
const handedOver = new Map([["path:/mvm/tools", hash("T")]]);

describe("what a builder says it built from", () => {
  it("is what the host handed over", () => {
    checkLocked({ narHash: hash("F"), inputs: [tools, lib] }, hash("F"), handedOver);
  });

  it("is refused when it is another flake, or another input than was handed over", () => {
    assert.throws(
      () => checkLocked({ narHash: hash("X"), inputs: [] }, hash("F"), handedOver),
      /built from another flake/,
    );
    const other = { ...tools, name: "whatever", nar_hash: hash("X") };
    assert.throws(
      () => checkLocked({ narHash: hash("F"), inputs: [other] }, hash("F"), handedOver),
      OperationError,
    );
  });

  it("is in the flake's lock file, unless it is part of the flake or the host's own", () => {
    const nested = { name: "nested", url: "path:./nested", nar_hash: hash("N") };
    requireLocks(
      [tools, nested, lib],
      JSON.stringify({ nodes: { lib: { locked: { narHash: hash("L") } } } }),
    );
    for (const lockFile of [undefined, "{}", hash("l")]) {
      assert.throws(
        () => requireLocks([tools, lib], lockFile),
        (error) => {
          assert.ok(error instanceof UsageError);
          assert.match(error.message, /input lib \(github:o\/r\/f00\) is not in its flake.lock/);
          return true;
        },
      );
    }
  });
});
