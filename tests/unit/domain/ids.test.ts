import assert from "node:assert/strict";
import { test } from "node:test";
import { assert as checkProperty, property, string, stringMatching } from "fast-check";
import { UsageError } from "../../../src/domain/errors.ts";
import {
  formatInstance,
  formatPool,
  parseInstanceAddress,
  parseInstanceId,
  parsePoolAddress,
  parsePoolId,
  parseTenantId,
} from "../../../src/domain/ids.ts";

const goodName = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const badNames = [
  "",
  "-a",
  "a-",
  "A",
  "a_b",
  "a.b",
  "a b",
  "ä",
  "a/b",
  "..",
  "a\n",
  "a\0",
  "a".repeat(64),
];

test("a tenant or pool id is 1 to 63 lower-case letters, digits and inner hyphens", () => {
  for (const name of ["a", "0", "a-b", "a--b", "9z", "a".repeat(63)]) {
    assert.equal(parseTenantId(name), name);
    assert.equal(parsePoolId(name), name);
  }
  for (const name of badNames) {
    assert.throws(() => parseTenantId(name), UsageError, JSON.stringify(name));
    assert.throws(() => parsePoolId(name), UsageError, JSON.stringify(name));
  }
});

test("any text is a tenant id or refused, and only what the rule says is accepted", () => {
  checkProperty(
    property(string(), (text) => {
      let accepted = true;
      try {
        parseTenantId(text);
      } catch (error) {
        assert.ok(error instanceof UsageError);
        accepted = false;
      }
      // JavaScript's $ without the m flag ends at the very end of the text.
      assert.equal(accepted, goodName.test(text));
    }),
  );
});

test("an instance id is i- and eight lower-case hex digits", () => {
  assert.equal(parseInstanceId("i-0123abcd"), "i-0123abcd");
  for (const text of ["i-0123abc", "i-0123abcde", "i-0123ABCD", "x-0123abcd", "0123abcd", ""]) {
    assert.throws(() => parseInstanceId(text), UsageError, text);
  }
});

test("an address that is written out is read back as the same address", () => {
  const name = stringMatching(/^[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?$/);
  const id = stringMatching(/^i-[0-9a-f]{8}$/);
  checkProperty(
    property(name, name, id, (tenant, pool, instance) => {
      const poolAddress = parsePoolAddress(`${tenant}/${pool}`);
      assert.deepEqual(parsePoolAddress(formatPool(poolAddress)), poolAddress);
      const address = parseInstanceAddress(`${tenant}/${pool}/${instance}`);
      assert.deepEqual(address, { tenant, pool, instance });
      assert.deepEqual(parseInstanceAddress(formatInstance(address)), address);
    }),
  );
});

test("an address with too few, too many or empty parts is refused", () => {
  for (const text of ["a", "a/", "/a", "a/b/c", "a//b", ""]) {
    assert.throws(() => parsePoolAddress(text), UsageError, text);
  }
  for (const text of ["a/b", "a/b/c", "a/b/i-00000001/", "/b/i-00000001", "i-00000001"]) {
    assert.throws(() => parseInstanceAddress(text), UsageError, text);
  }
});

test("a refused id says what would be accepted", () => {
  assert.throws(
    () => parseTenantId("Acme"),
    (error) => {
      assert.ok(error instanceof UsageError);
      assert.equal(error.message, '"Acme" is not a tenant id');
      assert.match(error.hint ?? "", /1 to 63 lower-case letters/);
      return true;
    },
  );
});
