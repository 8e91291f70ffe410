import assert from "node:assert/strict";
import { test } from "node:test";
import { ConflictError } from "../../../../src/domain/errors.ts";
import {
  hostNetworks,
  isBridgeName,
  isPortName,
  parseLinks,
  planLinks,
  planNeighbours,
} from "../../../../src/host/net/links.ts";
import type { Link } from "../../../../src/host/net/links.ts";
import { tenantState } from "../../../hosts/tenant-topology.ts";

const tap: Link = {
  name: "tn1i2",
  kind: "tun",
  mac: "9e:00:00:00:00:01",
  master: "br-tenant-1",
  up: true,
  addresses: [],
};
const bridge: Link = {
  name: "br-tenant-1",
  kind: "bridge",
  mac: "02:6d:76:00:01:01",
  master: undefined,
  up: true,
  addresses: ["10.240.1.1/24"],
};

test("a host that has all that is wanted needs no change", () => {
  assert.deepEqual(planLinks([bridge, tap], [tenantState(1, [2])], ["tun"], 900_000), {
    remove: [],
    create: [],
    configure: [],
  });
});

test("an empty host gets bridge and port, and the port comes up on the bridge", () => {
  assert.deepEqual(planLinks([], [tenantState(1, [2])], ["tun"], 900_000), {
    remove: [],
    create: [
      "link add name br-tenant-1 address 02:6d:76:00:01:01 type bridge mcast_snooping 0",
      "tuntap add dev tn1i2 mode tap user 900258",
    ],
    configure: [
      "address add 10.240.1.1/24 dev br-tenant-1",
      "link set dev br-tenant-1 up",
      "link set dev tn1i2 master br-tenant-1",
      "link set dev tn1i2 up",
    ],
  });
});

test("what an interrupted change left half made is finished", () => {
  const half = [
    { ...bridge, mac: "9e:00:00:00:00:02" },
    { ...tap, master: undefined, up: false },
  ];
  assert.deepEqual(planLinks(half, [tenantState(1, [2])], ["tun"], 900_000).configure, [
    "link set dev br-tenant-1 address 02:6d:76:00:01:01",
    "link set dev tn1i2 master br-tenant-1",
    "link set dev tn1i2 up",
  ]);
});

test("links of mvm's name form that nobody wants go, ports before bridges; others stay", () => {
  const others = [
    { ...tap, name: "tn1i2x" },
    { ...bridge, name: "br-tenant-x" },
    { ...tap, name: "tn5i6", kind: "veth" },
  ];
  assert.deepEqual(planLinks([bridge, tap, ...others], [], ["tun"], 900_000).remove, [
    "tn1i2",
    "br-tenant-1",
  ]);
});

test("a wanted name that another kind of link has is refused", () => {
  assert.throws(
    () => planLinks([{ ...tap, kind: "veth" }], [tenantState(1, [2])], ["tun"], 900_000),
    (error) => error instanceof ConflictError && /tn1i2 .* veth/.test(error.message),
  );
  assert.throws(() =>
    planLinks([{ ...bridge, kind: undefined }], [tenantState(1, [])], ["tun"], 900_000),
  );
});

test("every address of the plan gives names of mvm's form, and no interface name is too long", () => {
  for (const [netId, offset] of [
    [0, 2],
    [4095, 254],
  ] as const) {
    const state = tenantState(netId, [offset]);
    const port = state.ports[0]?.tap ?? "";
    assert.ok(isBridgeName(state.network.bridge) && state.network.bridge.length <= 15);
    assert.ok(isPortName(port) && port.length <= 15);
  }
});

test("the host's own networks leave out the tenants' and any default", () => {
  const links = parseLinks(
    JSON.stringify([
      {
        ifname: "eth0",
        flags: ["UP"],
        addr_info: [
          { family: "inet", local: "192.0.2.5", prefixlen: 24 },
          { family: "inet6", local: "2001:db8::1", prefixlen: 64 },
        ],
      },
      {
        ifname: "ppp0",
        flags: [],
        addr_info: [{ family: "inet", local: "192.0.2.9", address: "203.0.113.1", prefixlen: 32 }],
      },
      {
        ifname: "br-tenant-1",
        flags: ["UP"],
        linkinfo: { info_kind: "bridge" },
        addr_info: [{ family: "inet", local: "10.240.1.1", prefixlen: 24 }],
      },
      {
        ifname: "any",
        flags: [],
        addr_info: [{ family: "inet", local: "198.51.100.1", prefixlen: 0 }],
      },
    ]),
  );
  assert.deepEqual(hostNetworks(links), ["192.0.2.5/24", "192.0.2.9/32", "203.0.113.1/32"]);
});

test("neighbours that are no present port of a tenant's bridge are forgotten", () => {
  const [port] = tenantState(1, [2]).ports;
  const shown = JSON.stringify([
    { dst: "10.240.1.2", dev: "br-tenant-1", lladdr: port?.mac, state: ["STALE"] },
    { dst: "10.240.1.3", dev: "br-tenant-1", lladdr: "02:6d:76:00:01:03", state: ["STALE"] },
    { dst: "10.240.1.4", dev: "br-tenant-1", state: ["FAILED"] },
    { dst: "192.0.2.1", dev: "eth0", lladdr: "02:00:00:00:00:01", state: ["REACHABLE"] },
  ]);
  assert.deepEqual(planNeighbours(shown, [tenantState(1, [2])]), [
    "neighbour flush to 10.240.1.3 dev br-tenant-1 nud all",
  ]);
  assert.deepEqual(planNeighbours("", [tenantState(1, [2])]), []);
});
