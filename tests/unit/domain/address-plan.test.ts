import assert from "node:assert/strict";
import { test } from "node:test";
import { assert as checkProperty, integer, property } from "fast-check";
import {
  allocateNetId,
  allocateOffset,
  instanceNetwork,
  maxNetId,
  netIdOfSubnet,
  tenantNetwork,
} from "../../../src/domain/address-plan.ts";
import { ConflictError, UsageError } from "../../../src/domain/errors.ts";

const netIds = integer({ min: 0, max: maxNetId });
const offsets = integer({ min: 2, max: 254 });

test("net id N has the N-th /24 of the cluster range", () => {
  assert.deepEqual(tenantNetwork(1), {
    netId: 1,
    subnet: "10.240.1.0/24",
    gatewayIp: "10.240.1.1",
    bridge: "br-tenant-1",
  });
  assert.equal(tenantNetwork(0).subnet, "10.240.0.0/24");
  assert.equal(tenantNetwork(256).subnet, "10.241.0.0/24");
  assert.equal(tenantNetwork(4095).subnet, "10.255.255.0/24");
});

test("an instance's address, MAC and TAP follow from net id and offset", () => {
  assert.deepEqual(instanceNetwork(258, 16), {
    offset: 16,
    ip: "10.241.2.16",
    mac: "02:6d:76:01:02:10",
    tap: "tn258i16",
  });
});

test("a subnet leads back to its net id", () => {
  checkProperty(property(netIds, (netId) => netIdOfSubnet(tenantNetwork(netId).subnet) === netId));
});

test("no two instances share an address, a MAC or a TAP, and names fit the kernel's 15 bytes", () => {
  checkProperty(
    property(netIds, offsets, netIds, offsets, (netA, offsetA, netB, offsetB) => {
      const left = instanceNetwork(netA, offsetA);
      const right = instanceNetwork(netB, offsetB);
      const same = netA === netB && offsetA === offsetB;
      assert.ok(left.tap.length <= 15);
      assert.equal(left.ip === right.ip, same);
      assert.equal(left.mac === right.mac, same);
      assert.equal(left.tap === right.tap, same);
    }),
  );
});

test("what lies outside the plan is refused", () => {
  for (const netId of [-1, 4096, 1.5, Number.NaN]) {
    assert.throws(() => tenantNetwork(netId), UsageError);
  }
  for (const offset of [0, 1, 255, 2.5]) {
    assert.throws(() => instanceNetwork(1, offset), UsageError);
  }
  const cidrs = [
    "10.239.0.0/24",
    "11.0.0.0/24",
    "10.240.1.0/16",
    "10.240.1.1/24",
    "10.240.256.0/24",
  ];
  for (const cidr of cidrs) assert.throws(() => netIdOfSubnet(cidr), UsageError);
});

test("a new tenant gets the lowest net id that was never used", () => {
  assert.equal(allocateNetId(new Set(), new Set()), 1);
  assert.equal(allocateNetId(new Set([1, 2]), new Set([2])), 3);
});

test("used net ids come back only when no other is left, and never while in use", () => {
  const all = new Set(Array.from({ length: maxNetId }, (_, index) => index + 1));
  assert.equal(allocateNetId(all, new Set([1, 3])), 2);
  assert.throws(() => allocateNetId(all, all), ConflictError);
});

test("an instance gets the lowest free address, and none from a full subnet", () => {
  assert.equal(allocateOffset(new Set()), 2);
  assert.equal(allocateOffset(new Set([2, 4])), 3);
  const full = new Set(Array.from({ length: 253 }, (_, index) => index + 2));
  assert.equal(allocateOffset(full), undefined);
});
