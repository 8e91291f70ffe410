import assert from "node:assert/strict";
import { test } from "node:test";
import { egressSchema } from "../../../src/domain/egress-schema.ts";
import { egressPolicy, formatEgress } from "../../../src/domain/egress.ts";
import { UsageError } from "../../../src/domain/errors.ts";

const nothing = { cidrs: [], domains: [], ports: [] };

test("a policy is open, none, or a list, and the list is put in order", () => {
  assert.deepEqual(egressPolicy({ mode: "open", ...nothing }), { mode: "open" });
  assert.deepEqual(egressPolicy({ mode: "none", ...nothing }), { mode: "none" });
  assert.deepEqual(
    egressPolicy({
      mode: "allow",
      cidrs: ["192.0.2.0/24", "0.0.0.0/0", "192.0.2.0/24"],
      domains: ["B.example.COM", "a.example"],
      ports: [443, 80, 443],
    }),
    {
      mode: "allow",
      cidrs: ["0.0.0.0/0", "192.0.2.0/24"],
      domains: ["a.example", "b.example.com"],
      ports: [80, 443],
    },
  );
});

test("a list without an address or a name, and lists beside another mode, are refused", () => {
  assert.throws(() => egressPolicy({ mode: "allow", ...nothing, ports: [443] }), UsageError);
  for (const mode of ["open", "none"] as const) {
    const cidrs = ["192.0.2.0/24"];
    assert.throws(() => egressPolicy({ mode, ...nothing, cidrs }), /takes no CIDRs/);
  }
});

test("what is no IPv4 network is refused, and a network with bits of a host is told its name", () => {
  for (const cidr of [
    "",
    "192.0.2.1",
    "192.0.2.0/33",
    "256.0.0.0/8",
    "fd00::/8",
    "1.2.3.4/32\n}",
  ]) {
    assert.throws(
      () => egressPolicy({ mode: "allow", ...nothing, cidrs: [cidr] }),
      UsageError,
      cidr,
    );
  }
  assert.throws(
    () => egressPolicy({ mode: "allow", ...nothing, cidrs: ["10.1.2.3/8"] }),
    (error) => error instanceof UsageError && error.hint?.includes("10.0.0.0/8") === true,
  );
});

test("what is no domain does not get into the configuration of a DNS server", () => {
  for (const domain of [
    "",
    "com",
    "*.example.com",
    ".example.com",
    "example.com.",
    "a..b",
    "-a.example",
    "192.0.2.1",
    "example.com/4#inet#mvm#closed",
    "example.com\nserver=192.0.2.1",
    "web.mvm",
    `${"a".repeat(64)}.example`,
    `${"a.".repeat(127)}example`,
  ]) {
    const fields = { mode: "allow" as const, ...nothing, domains: [domain] };
    assert.throws(() => egressPolicy(fields), UsageError, domain);
  }
});

test("a record or document may leave empty lists out, and names every other field in vain", () => {
  assert.deepEqual(egressSchema.parse({ mode: "open" }), { mode: "open" });
  assert.deepEqual(egressSchema.parse({ mode: "none", ...nothing }), { mode: "none" });
  const list = egressPolicy({ mode: "allow", ...nothing, domains: ["a.example"] });
  assert.deepEqual(egressSchema.parse(JSON.parse(JSON.stringify(list))), list);
  for (const value of [
    {},
    { mode: "closed" },
    { mode: "open", surprise: 1 },
    { mode: "open", ports: [443] },
    { mode: "allow", cidrs: ["192.0.2.0/24"], ports: [0] },
    { mode: "allow", cidrs: Array.from({ length: 65 }, (_, index) => `10.0.${index}.0/24`) },
  ]) {
    assert.equal(egressSchema.safeParse(value).success, false, JSON.stringify(value));
  }
});

test("a policy is shown on one line", () => {
  assert.equal(formatEgress({ mode: "none" }), "none");
  const list = { mode: "allow", cidrs: ["192.0.2.0/24"], domains: ["a.example"] } as const;
  assert.equal(formatEgress({ ...list, ports: [] }), "allow 192.0.2.0/24, a.example");
  assert.equal(formatEgress({ ...list, ports: [80] }), "allow 192.0.2.0/24, a.example on ports 80");
});
