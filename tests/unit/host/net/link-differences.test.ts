import assert from "node:assert/strict";
import { test } from "node:test";
import { linkDifferences } from "../../../../src/host/net/link-differences.ts";
import type { Link } from "../../../../src/host/net/links.ts";
import { tenantState } from "../../../hosts/tenant-topology.ts";

const bridge: Link = {
  name: "br-tenant-1",
  kind: "bridge",
  mac: "02:6d:76:00:01:01",
  master: undefined,
  up: true,
  addresses: ["10.240.1.1/24"],
};
const tap: Link = {
  name: "tn1i2",
  kind: "tun",
  mac: "9e:00:00:00:00:01",
  master: "br-tenant-1",
  up: true,
  addresses: [],
  tap: { user: 900_258, exclusive: true },
};
const tenants = [tenantState(1, [2])];
const expectations = { portKinds: ["tun"], vmUidBase: 900_000, keepUnknown: false };

function problems(observed: readonly Link[], keepUnknown = false): string[] {
  return linkDifferences(observed, tenants, { ...expectations, keepUnknown }).map(
    ({ part, name, problem }) => `${part} ${name} ${problem}`,
  );
}

test("links that are as the records say are no difference", () => {
  assert.deepEqual(problems([bridge, tap]), []);
});

test("each way in which a bridge or a port can be wrong is named", () => {
  assert.deepEqual(problems([]), [
    "link br-tenant-1 tenant tenant-1 has no bridge",
    "tap tn1i2 tenant-1/web/i-2 has no TAP",
  ]);
  assert.deepEqual(
    problems([
      { ...bridge, kind: "dummy" },
      { ...tap, kind: "veth" },
    ]),
    ["link br-tenant-1 is not a bridge", "tap tn1i2 is not a TAP"],
  );
  assert.deepEqual(
    problems([
      { ...bridge, mac: "02:00:00:00:00:01", up: false, addresses: ["192.0.2.1/24"] },
      { ...tap, master: undefined, up: false, addresses: ["192.0.2.2/24"] },
    ]),
    [
      "link br-tenant-1 has the MAC 02:00:00:00:00:01, not 02:6d:76:00:01:01",
      "link br-tenant-1 is down",
      "address br-tenant-1 lacks its address 10.240.1.1/24",
      "address br-tenant-1 has an address that is not its own: 192.0.2.1/24",
      "tap tn1i2 is on no bridge, not on br-tenant-1",
      "tap tn1i2 is down",
      "address tn1i2 has an address, and must have none: 192.0.2.2/24",
    ],
  );
});

test("a TAP that another may open is named, with what mends it", () => {
  for (const [access, who] of [
    [{ user: undefined, exclusive: true }, "anyone"],
    [{ user: 1000, exclusive: true }, "uid 1000"],
    [{ user: 900_258, exclusive: false }, "several programs at once"],
  ] as const) {
    const [found, ...rest] = linkDifferences(
      [bridge, { ...tap, tap: access }],
      tenants,
      expectations,
    );
    assert.deepEqual(rest, []);
    assert.ok(found?.problem.startsWith(`can be opened by ${who},`), found?.problem);
    assert.match(
      found?.repair ?? "",
      /^mvm instance stop tenant-1\/web\/i-2 && mvm instance start/,
    );
  }
});

test("links of nobody are named, unless not every record could be read; links of others never", () => {
  const stray = { ...bridge, name: "br-tenant-9" };
  const others = { ...bridge, name: "docker0" };
  assert.deepEqual(problems([bridge, tap, stray, others]), [
    "link br-tenant-9 no record asks for it",
  ]);
  assert.deepEqual(problems([bridge, tap, stray, others], true), []);
});
