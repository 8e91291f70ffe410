import assert from "node:assert/strict";
import { test } from "node:test";
import { releasedAddresses, withKept } from "../../../../src/host/net/applied-networks.ts";
import { tenantState } from "../../../hosts/tenant-topology.ts";

const a = tenantState(1, [2, 3]);
const b = tenantState(2, [2]);
const all = new Set(["br-tenant-1", "tn1i2", "tn1i3", "br-tenant-2", "tn2i2"]);
const taps = (tenants: readonly { ports: readonly { tap: string }[] }[]): string[] =>
  tenants.flatMap(({ ports }) => ports.map(({ tap }) => tap)).toSorted();

test("what was applied and cannot be read any more keeps what it had", () => {
  assert.deepEqual(withKept([b], [a, b], all), [a, b]);
  assert.deepEqual(taps(withKept([tenantState(1, [2]), b], [a, b], all)), [
    "tn1i2",
    "tn1i3",
    "tn2i2",
  ]);
});

test("what is gone from the host is not brought back for records that cannot be read", () => {
  assert.deepEqual(withKept([b], [a, b], new Set(["br-tenant-2", "tn2i2"])), [b]);
  const half = new Set([...all].filter((name) => name !== "tn1i3"));
  assert.deepEqual(taps(withKept([b], [a, b], half)), ["tn1i2", "tn2i2"]);
});

test("records that can be read win over what was applied", () => {
  const closed = tenantState(1, [2, 3], { mode: "none" });
  assert.deepEqual(withKept([closed], [a], all), [closed]);
  const successor = { ...tenantState(1, [2]), tenantId: "successor" };
  assert.deepEqual(withKept([successor], [a], all), [successor]);
});

test("an address is released when it is given up, given to another, or comes under another policy", () => {
  assert.deepEqual(releasedAddresses([a, b], [a, b]), []);
  assert.deepEqual(releasedAddresses([a, b], [tenantState(1, [2]), b]), ["10.240.1.3"]);
  assert.deepEqual(releasedAddresses([a], []), ["10.240.1.2", "10.240.1.3"]);
  const closed = tenantState(1, [2, 3], { mode: "none" });
  assert.deepEqual(releasedAddresses([a], [closed]), ["10.240.1.2", "10.240.1.3"]);
  const [first, second] = a.ports;
  assert.ok(first !== undefined && second !== undefined);
  const handed = { ...a, ports: [{ ...first, owner: "tenant-1/web/i-new" }, second] };
  assert.deepEqual(releasedAddresses([a], [handed]), ["10.240.1.2"]);
  assert.deepEqual(releasedAddresses([], [a]), []);
});
