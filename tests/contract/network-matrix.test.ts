import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { type EgressPolicy, egressPolicy } from "../../src/domain/egress.ts";
import type { TenantNetworkState } from "../../src/ports/network.ts";
import { type CraftedFrame, countArriving, sendCrafted } from "../hosts/crafted-frames.ts";
import type { NetNamespace } from "../hosts/net-namespace.ts";
import { dnsProbe, dnsServer, echoServer, reachProbe } from "../hosts/probes.ts";
import { NetworkHost, makeGuest, makeOutside, tenantState } from "../hosts/tenant-topology.ts";

const skip = process.getuid?.() === 0 ? false : "network namespaces need root";

const resolver = "203.0.113.53";
const listedIp = "203.0.113.9";
const unlistedIp = "203.0.113.10";
const namedIp = "192.0.2.77";
const metadataIp = "169.254.169.254";

/** The guests of tenant A by the last number of their address, each under its own policy. */
const policies: Readonly<Record<number, EgressPolicy>> = {
  2: { mode: "open" },
  3: { mode: "none" },
  4: allow({ cidrs: [`${listedIp}/32`], domains: ["listed.example"] }),
  5: allow({ cidrs: ["203.0.113.0/24"], domains: ["listed.example"], ports: [8000] }),
};
const tenantA = withPolicies(1, policies);
const tenantB = tenantState(2, [2]);

/** Every place that a guest of tenant A is let through to, whatever its policy: its own tenant, and DNS and ping of its gateway. */
const ownPlaces = [
  ...["10.240.1.2", "10.240.1.3"].flatMap((ip) => [
    `tcp:${ip}:8000`,
    `udp:${ip}:8000`,
    `icmp:${ip}`,
  ]),
  "tcp:10.240.1.1:53",
  "udp:10.240.1.1:53",
  "icmp:10.240.1.1",
];
/** Where no guest of tenant A gets through. */
const closedPlaces = [
  // Tenant B, by its guest and by its gateway.
  "tcp:10.240.2.2:8000",
  "udp:10.240.2.2:8000",
  "icmp:10.240.2.2",
  "tcp:10.240.2.1:8000",
  "tcp:10.240.2.1:53",
  "udp:10.240.2.1:53",
  "icmp:10.240.2.1",
  // The host: its services by the gateway's and by its own address, and its own network.
  "tcp:10.240.1.1:8000",
  "udp:10.240.1.1:8000",
  "tcp:198.51.100.1:8000",
  "udp:198.51.100.1:8000",
  "tcp:198.51.100.1:53",
  "icmp:198.51.100.1",
  "tcp:198.51.100.2:8000",
  "icmp:198.51.100.2",
  // Metadata services and the rest of the cluster range, though the world outside has them.
  `tcp:${metadataIp}:8000`,
  `icmp:${metadataIp}`,
  "tcp:10.250.0.1:8000",
];
const outsidePlaces = [listedIp, unlistedIp].flatMap((ip) => [
  `tcp:${ip}:8000`,
  `tcp:${ip}:9000`,
  `udp:${ip}:8000`,
  `icmp:${ip}`,
]);
const outsideOf: Readonly<Record<number, readonly string[]>> = {
  2: outsidePlaces,
  3: [],
  4: outsidePlaces.filter((place) => place.split(":")[1] === listedIp),
  5: outsidePlaces.filter((place) => place.endsWith(":8000")),
};

describe("what reaches what", { skip, timeout: 400_000 }, () => {
  const stack = new AsyncDisposableStack();
  const guests = new Map<number, NetNamespace>();
  let host: NetworkHost;
  let outside: NetNamespace;
  let b2: NetNamespace;

  before(async () => {
    host = stack.use(await NetworkHost.make("matrix", resolver, ["tun", "veth"]));
    const world = [listedIp, unlistedIp, resolver, namedIp, metadataIp, "10.250.0.1"];
    outside = stack.use(await makeOutside(host, world));
    // Only the rules keep guests from it.
    await host.namespace.ip(`route add ${metadataIp} via 198.51.100.2`);
    for (const { offset } of tenantA.ports) {
      guests.set(offset, stack.use(await makeGuest(host, tenantA, offset)));
    }
    b2 = stack.use(await makeGuest(host, tenantB, 2));
    await host.apply([tenantA, tenantB]);
    await Promise.all([
      ...[...guests.values(), b2, host.namespace].map((namespace) =>
        namespace.startNode(echoServer, "0.0.0.0", "8000", "9000"),
      ),
      outside.startNode(echoServer, [...world, "198.51.100.2"].join(), "8000", "9000"),
      outside.startNode(
        dnsServer,
        resolver,
        namedIp,
        JSON.stringify({
          "metadata.listed.example": metadataIp,
          "tenant.listed.example": "10.240.2.2",
          "host.listed.example": "198.51.100.1",
        }),
      ),
    ]);
  });
  after(async () => {
    await stack.disposeAsync();
  });

  function guest(offset: number): NetNamespace {
    const found = guests.get(offset);
    assert.ok(found !== undefined);
    return found;
  }

  for (const port of tenantA.ports) {
    const { mode } = port.egress;
    const ports = mode === "allow" && port.egress.ports.length > 0 ? " with ports" : "";
    it(`lets a guest under egress ${mode}${ports} through to exactly its own places`, async () => {
      const wanted = [...ownPlaces, ...(outsideOf[port.offset] ?? [])];
      const tried = [...ownPlaces, ...closedPlaces, ...outsidePlaces];
      assert.deepEqual(await reached(guest(port.offset), tried), wanted.toSorted());
    });
  }

  it("shows that each closed place answers where no rule is in the way", async () => {
    const fromHost = closedPlaces.filter((place) => !/10\.240\.[12]\.1:(53|8000)/.test(place));
    assert.deepEqual(
      await reached(host.namespace, fromHost),
      // Nothing listens for DNS on the host's own address, which a refusal shows as well.
      fromHost.toSorted(),
    );
  });

  it("sends nothing to a closed place, not even what gets no answer", async () => {
    const closed = `ip daddr { ${metadataIp}, 10.250.0.1, 198.51.100.2 } ip protocol { tcp, udp }`;
    const ways: readonly [at: NetNamespace, match: string, offset: number, places: string[]][] = [
      [outside, closed, 2, closedPlaces],
      [outside, closed, 4, closedPlaces],
      [outside, `ip daddr { ${listedIp}, ${unlistedIp} }`, 3, outsidePlaces],
      [outside, `ip daddr ${unlistedIp}`, 4, outsidePlaces],
      [b2, "ip saddr 10.240.1.0/24", 2, closedPlaces],
    ];
    for (const [at, match, offset, places] of ways) {
      const count = await countArriving(at, match, () => reached(guest(offset), places));
      assert.equal(count, 0, `${match} from ${offset}`);
    }
    const open = await countArriving(outside, `ip daddr ${listedIp}`, () =>
      reached(guest(2), outsidePlaces),
    );
    assert.ok(open > 0, "what is open is counted");
  });

  it("keeps tenant B and the outside from tenant A", async () => {
    const places = [...ownPlaces, "tcp:10.240.1.4:9000", "tcp:10.240.1.1:8000"];
    assert.deepEqual(await reached(b2, places), []);
    assert.deepEqual(await reached(outside, places), []);
  });

  it("lets a guest ask its own list's DNS server only, and only by port 53", async () => {
    const servers = (await dnsPorts(host)).map((port) => `tcp:10.240.1.1:${port}`);
    assert.equal(servers.length, 3, "one for all names, one for a list, one for none");
    for (const offset of [2, 3, 4]) {
      assert.deepEqual(await reached(guest(offset), servers), ["tcp:10.240.1.1:53"]);
    }
  });

  it("answers the names of a pool's list and of the tenant, and no others", async () => {
    const names = ["listed.example", "a.listed.example", "other.example", "web.mvm"];
    const own = [2, 3, 4, 5].map((offset) => `10.240.1.${offset}`);
    assert.deepEqual(await resolved(guest(2), names), [namedIp, namedIp, namedIp, own.join()]);
    assert.deepEqual(await resolved(guest(3), names), ["", "", "", own.join()]);
    assert.deepEqual(await resolved(guest(4), names), [namedIp, namedIp, "", own.join()]);
  });

  it("opens the addresses of a listed name once it was asked for, to the pools that list it", async () => {
    await host.namespace.run("nft", ["flush", "set", "inet", "mvm", await addressSet(host)]);
    const place = `tcp:${namedIp}:8000`;
    assert.deepEqual(await reached(guest(4), [place]), []);
    await resolved(guest(4), ["listed.example"]);
    assert.deepEqual(await reached(guest(4), [place, `icmp:${namedIp}`]), [
      `icmp:${namedIp}`,
      place,
    ]);
    assert.deepEqual(await reached(guest(5), [place, `tcp:${namedIp}:9000`]), [place]);
    assert.deepEqual(await reached(guest(3), [place]), []);
  });

  it("keeps an address open while it is used, and not longer", async () => {
    const set = await addressSet(host);
    const fill = `{ ${namedIp} expires 4s }`;
    await host.namespace.run("nft", ["flush", "set", "inet", "mvm", set]);
    await host.namespace.run("nft", ["add", "element", "inet", "mvm", set, fill]);
    await reached(guest(4), [`icmp:${namedIp}`]);
    const listed = await host.namespace.run("nft", ["list", "set", "inet", "mvm", set]);
    assert.match(listed, /192\.0\.2\.77 .*expires (59m|1h)/);
  });

  it("opens nothing that is closed by a listed name that leads there", async () => {
    const names = ["metadata", "tenant", "host"].map((name) => `${name}.listed.example`);
    assert.deepEqual(await resolved(guest(4), names), [metadataIp, "10.240.2.2", "198.51.100.1"]);
    const set = await host.namespace.run("nft", [
      "list",
      "set",
      "inet",
      "mvm",
      await addressSet(host),
    ]);
    assert.match(set, /169\.254\.169\.254/, "the address is in the set, and still closed");
    assert.deepEqual(await reached(guest(4), closedPlaces), []);
  });

  it("keeps what names opened when something else changes, and forgets it with the list", async () => {
    await resolved(guest(4), ["listed.example"]);
    const place = `tcp:${namedIp}:8000`;
    await host.apply([tenantA, tenantState(2, [2, 3])]);
    assert.deepEqual(await reached(guest(4), [place]), [place]);
    const other = allow({ cidrs: [], domains: ["other.example"] });
    await host.apply([withPolicies(1, { ...policies, 4: other, 5: other }), tenantB]);
    assert.deepEqual(await reached(guest(4), [place]), []);
    await host.apply([tenantA, tenantB]);
    assert.deepEqual(await reached(guest(4), [place]), []);
    assert.deepEqual(await host.verify([tenantA, tenantB]), []);
  });

  for (const { kind, frame, trigger } of falseFrames()) {
    it(`lets no ${kind} in`, async () => {
      await settleNeighbours(guest(2), trigger);
      const counts = await sendCrafted([guest(2), guest(3)], frame, () => send(guest(2), trigger));
      assert.ok(counts.sent > 0, "none was sent");
      assert.equal(counts.arrived, 0);
    });
  }

  it("lets true frames in: what is changed above is what is refused", async () => {
    for (const { trigger, match } of [
      { trigger: "ip", match: "ip saddr 10.240.1.2 ether saddr 02:6d:76:00:01:02" },
      { trigger: "arp", match: "arp saddr ip 10.240.1.2 arp operation request" },
    ] as const) {
      await settleNeighbours(guest(2), trigger);
      const counts = await sendCrafted([guest(2), guest(3)], { change: "", match }, () =>
        send(guest(2), trigger),
      );
      assert.ok(counts.arrived > 0, match);
    }
  });

  it("tells a guest of no address of the host, also by a link-local group address", async () => {
    const asked = "198.51.100.1";
    for (const ether of ["", "ether daddr set 01:80:c2:00:00:0e "]) {
      const change = `ether type arp arp operation request ${ether}arp daddr ip set ${asked}`;
      await settleNeighbours(guest(2), "arp");
      // The answer would come back to the port that asked.
      await guest(2).run("nft", ["-f", "-"], {
        input: `table netdev answers {
	chain seen {
		type filter hook ingress device "eth0" priority 0;
		arp saddr ip ${asked} counter
	}
}
`,
      });
      const frame = { change, match: `arp daddr ip ${asked}` };
      const counts = await sendCrafted([guest(2), guest(3)], frame, () => send(guest(2), "arp"));
      const answers = await guest(2).run("nft", ["list", "table", "netdev", "answers"]);
      await guest(2).run("nft", ["delete", "table", "netdev", "answers"]);
      assert.ok(counts.sent > 0, "none was sent");
      assert.match(answers, /counter packets 0 /, ether);
    }
  });
});

function allow(lists: {
  cidrs: readonly string[];
  domains: readonly string[];
  ports?: readonly number[];
}): EgressPolicy {
  return egressPolicy({ mode: "allow", ports: [], ...lists });
}

function withPolicies(
  netId: number,
  policies: Readonly<Record<number, EgressPolicy>>,
): TenantNetworkState {
  const ports = Object.entries(policies).flatMap(
    ([offset, egress]) => tenantState(netId, [Number(offset)], egress).ports,
  );
  return { ...tenantState(netId, []), ports };
}

/** Those of the places that answer, sorted. */
async function reached(from: NetNamespace, places: readonly string[]): Promise<string[]> {
  const output = await from.run(process.execPath, ["-e", reachProbe, ...new Set(places)]);
  return (JSON.parse(output) as string[]).toSorted();
}

/** For each name the addresses that the gateway of tenant A answers with, or "" when it does not. */
async function resolved(from: NetNamespace, names: readonly string[]): Promise<string[]> {
  const output = await from.run(process.execPath, ["-e", dnsProbe, "10.240.1.1", ...names]);
  const answers = JSON.parse(output) as Record<string, string[] | string>;
  return names.map((name) => {
    const answer = answers[name];
    return Array.isArray(answer) ? answer.join() : "";
  });
}

/** The ports of tenant A's DNS servers. */
async function dnsPorts(host: NetworkHost): Promise<string[]> {
  const sockets = await host.namespace.run("ss", ["-Hltn", "src", "10.240.1.1"]);
  return [...sockets.matchAll(/10\.240\.1\.1:(\d+)/g)].map(([, port]) => port ?? "");
}

/** The set of the list of names, which two pools share. */
async function addressSet(host: NetworkHost): Promise<string> {
  const sets = await host.namespace.run("nft", ["list", "sets"]);
  const names = [...sets.matchAll(/set (names_1_[0-9a-f]+)/g)].map(([, name]) => name ?? "");
  assert.equal(names.length, 1);
  return names[0] ?? "";
}

type Trigger = "ip" | "ipv6" | "arp";

/** Frames that are not a port's own, made from what guest A2 sends to A3. */
function falseFrames(): { kind: string; frame: CraftedFrame; trigger: Trigger }[] {
  const false77 = "10.240.1.77";
  const ip = (kind: string, change: string, match: string) => ({
    kind,
    frame: { change: `ether type ip ${change}`, match },
    trigger: "ip" as const,
  });
  const arp = (kind: string, change: string, match: string) => ({
    kind,
    frame: { change: `ether type arp ${change}`, match: `ether type arp ${match}` },
    trigger: "arp" as const,
  });
  const typed = (kind: string, type: string) =>
    ip(kind, `@ll,96,16 set ${type}`, `@ll,96,16 ${type}`);
  return [
    ip("packet with a false address", `ip saddr set ${false77}`, `ip saddr ${false77}`),
    ip("packet from no address, as DHCP sends", "ip saddr set 0.0.0.0", "ip saddr 0.0.0.0"),
    ip(
      "packet with another guest's address and MAC",
      "ether saddr set 02:6d:76:00:01:04 ip saddr set 10.240.1.4",
      "ip saddr 10.240.1.4",
    ),
    ip(
      "packet with a false MAC",
      "ether saddr set 02:6d:76:00:01:77",
      "ether saddr 02:6d:76:00:01:77",
    ),
    { kind: "IPv6 packet", frame: { change: "", match: "ether type ip6" }, trigger: "ipv6" },
    typed("frame of another kind", "0x88b5"),
    typed("frame with a VLAN tag", "0x8100"),
    typed("frame with a provider's VLAN tag", "0x88a8"),
    typed("PPPoE frame", "0x8864"),
    typed("frame with a length in place of a type", "0x0026"),
    arp(
      "ARP request with a false sender address",
      `arp saddr ip set ${false77}`,
      `arp saddr ip ${false77}`,
    ),
    arp(
      "ARP request with a false sender MAC",
      "arp saddr ether set 02:6d:76:00:01:77",
      "arp saddr ether 02:6d:76:00:01:77",
    ),
    arp(
      "ARP request from a false MAC",
      "ether saddr set 02:6d:76:00:01:77",
      "ether saddr 02:6d:76:00:01:77",
    ),
    arp(
      "gratuitous ARP for another's address",
      "arp operation set 2 arp saddr ip set 10.240.1.4 arp daddr ip set 10.240.1.4",
      "arp saddr ip 10.240.1.4",
    ),
    arp(
      "ARP reply for the gateway's address",
      "arp operation set 2 arp saddr ip set 10.240.1.1",
      "arp saddr ip 10.240.1.1",
    ),
    arp(
      "ARP request for an address of another tenant",
      "arp daddr ip set 10.240.2.2",
      "arp daddr ip 10.240.2.2",
    ),
    arp("ARP of another operation", "arp operation set 3", "arp operation 3"),
    arp("ARP of other hardware", "arp htype set 6", "arp htype 6"),
    arp("ARP of another protocol", "arp ptype set 0x0806", "arp ptype 0x0806"),
    arp("ARP with another length of MACs", "arp hlen set 8", "arp hlen 8"),
    arp("ARP with another length of addresses", "arp plen set 2", "arp plen 2"),
  ];
}

/** Makes sure that what is triggered is sent: a packet needs a neighbour, an ARP request the lack of one. */
async function settleNeighbours(from: NetNamespace, trigger: Trigger): Promise<void> {
  const mac = "lladdr 02:6d:76:00:01:03 dev eth0 nud permanent";
  await from.ip(
    trigger === "arp" ? "neighbour flush dev eth0 nud all" : `neighbour replace 10.240.1.3 ${mac}`,
    "address replace fd00::2/64 dev eth0 nodad",
    `neighbour replace fd00::3 ${mac}`,
  );
}

async function send(from: NetNamespace, trigger: Trigger): Promise<void> {
  await from.tryRun("ping", ["-n", "-c1", "-W1", trigger === "ipv6" ? "fd00::3" : "10.240.1.3"]);
}
