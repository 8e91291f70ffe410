import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { NetNamespace } from "../hosts/net-namespace.ts";
import { dnsProbe, dnsServer, tcpProbe, tcpServer, udpSend, udpSink } from "../hosts/probes.ts";
import { NetworkHost, makeGuest, makeOutside, tenantState } from "../hosts/tenant-topology.ts";

const skip = process.getuid?.() === 0 ? false : "network namespaces need root";
const tenantA = tenantState(1, [2, 3]);
const tenantB = tenantState(2, [2]);
const both = [tenantA, tenantB];
const outsideIp = "203.0.113.9";

describe("tenant networks on Linux", { skip, timeout: 240_000 }, () => {
  const stack = new AsyncDisposableStack();
  let host: NetworkHost;
  let outside: NetNamespace;
  let a2: NetNamespace;
  let a3: NetNamespace;
  let b2: NetNamespace;

  before(async () => {
    host = stack.use(await NetworkHost.make("host", outsideIp, ["tun", "veth"]));
    outside = stack.use(
      await makeOutside(host, [outsideIp, "169.254.169.254", "10.250.0.1", "10.240.9.9"]),
    );
    a2 = stack.use(await makeGuest(host, tenantA, 2));
    a3 = stack.use(await makeGuest(host, tenantA, 3));
    b2 = stack.use(await makeGuest(host, tenantB, 2));
    await host.apply(both);
    // Kernels differ in the default, and nothing may depend on it; one test turns it on.
    await bridgeNetfilter(host, "0");
    await Promise.all([
      ...[a2, a3, b2, outside, host.namespace].map((namespace) =>
        namespace.startNode(tcpServer, "8000", "0.0.0.0"),
      ),
      outside.startNode(dnsServer, outsideIp, "192.0.2.77"),
    ]);
  });
  after(async () => {
    await stack.disposeAsync();
  });

  it("lets instances of one tenant reach each other", async () => {
    assert.equal(await pings(a2, "10.240.1.3"), true);
    assert.deepEqual(await reaches(a2, "10.240.1.3:8000"), ["10.240.1.2"]);
  });

  it("keeps tenants apart in both directions, also by the other's gateway", async () => {
    assert.deepEqual(await reaches(a2, "10.240.2.2:8000", "10.240.2.1:8000", "10.240.2.1:53"), [
      "",
      "",
      "",
    ]);
    assert.deepEqual(await reaches(b2, "10.240.1.2:8000", "10.240.1.1:8000"), ["", ""]);
    for (const [guest, ip] of [
      [a2, "10.240.2.2"],
      [a2, "10.240.2.1"],
      [b2, "10.240.1.2"],
      [b2, "10.240.1.1"],
    ] as const) {
      assert.equal(await pings(guest, ip), false, `${guest.name} pings ${ip}`);
    }
    assert.deepEqual(await resolves(a2, "10.240.2.1", "web.mvm"), { "web.mvm": "ETIMEOUT" });
  });

  it("lets a guest ping its gateway and use nothing of the host but DNS", async () => {
    assert.equal(await pings(a2, "10.240.1.1"), true);
    assert.deepEqual(await reaches(a2, "10.240.1.1:8000", "198.51.100.1:8000"), ["", ""]);
    assert.equal(await pings(a2, "198.51.100.1"), false);
  });

  it("answers the names of the tenant's own instances and asks the host's resolver for others", async () => {
    const names = ["i-2.web.mvm", "web.mvm", "i-9.web.mvm", "example.test"];
    assert.deepEqual(await resolves(a2, "10.240.1.1", ...names), {
      "i-2.web.mvm": ["10.240.1.2"],
      "web.mvm": ["10.240.1.2", "10.240.1.3"],
      "i-9.web.mvm": "ENOTFOUND",
      "example.test": ["192.0.2.77"],
    });
    assert.deepEqual(await resolves(b2, "10.240.2.1", "web.mvm", "i-3.web.mvm"), {
      "web.mvm": ["10.240.2.2"],
      "i-3.web.mvm": "ENOTFOUND",
    });
  });

  it("masquerades what a guest sends outside", async () => {
    assert.deepEqual(await reaches(a2, `${outsideIp}:8000`), ["198.51.100.1"]);
    assert.equal(await pings(b2, outsideIp), true);
  });

  it("keeps guests from metadata services, the cluster range and the host's own networks", async () => {
    const targets = [
      "169.254.169.254:8000",
      "10.250.0.1:8000",
      "10.240.9.9:8000",
      "198.51.100.2:8000",
    ];
    await host.namespace.ip("route add 169.254.169.254 via 198.51.100.2");
    assert.deepEqual(await reaches(host.namespace, ...targets), Array(4).fill("198.51.100.1"));
    assert.deepEqual(await reaches(a2, ...targets), ["", "", "", ""]);
  });

  it("keeps the outside from guests and from their gateways", async () => {
    assert.deepEqual(await reaches(outside, "10.240.1.2:8000", "10.240.1.1:8000"), ["", ""]);
    assert.equal(await pings(outside, "10.240.1.2"), false);
    assert.deepEqual(await resolves(outside, "10.240.1.1", "web.mvm"), { "web.mvm": "ETIMEOUT" });
  });

  it("lets the host reach guests", async () => {
    assert.equal(await pings(host.namespace, "10.240.1.2"), true);
    assert.deepEqual(await reaches(host.namespace, "10.240.1.2:8000", "10.240.2.2:8000"), [
      "10.240.1.1",
      "10.240.2.1",
    ]);
  });

  it("lets the uid of a VMM send nothing itself", async () => {
    const probe = (uid: number): Promise<string> =>
      host.namespace.run("setpriv", [
        `--reuid=${uid}`,
        "--clear-groups",
        process.execPath,
        "-e",
        tcpProbe,
        `${outsideIp}:8000`,
        "127.0.0.1:8000",
      ]);
    assert.deepEqual(values(await probe(899_999)), ["198.51.100.1", "127.0.0.1"]);
    assert.deepEqual(values(await probe(900_258)), ["", ""]);
  });

  it("drops a datagram with another's address or MAC", async () => {
    const received = await collect(a3, "7000");
    const known = `neighbour replace 10.240.1.3 lladdr ${macOf(3)} dev eth0 nud permanent`;
    await a2.ip(known, "address add 10.240.1.77/32 dev eth0");
    await a2.node(udpSend, "10.240.1.77", "10.240.1.3", "7000", "false address");
    await a2.ip("address del 10.240.1.77/32 dev eth0");
    await a2.ip("link set eth0 address 02:6d:76:00:01:09", known);
    await a2.node(udpSend, "10.240.1.2", "10.240.1.3", "7000", "false MAC");
    await a2.ip(`link set eth0 address ${macOf(2)}`, known);
    await a2.node(udpSend, "10.240.1.2", "10.240.1.3", "7000", "true");
    await a2.ip("neighbour del 10.240.1.3 dev eth0");
    assert.deepEqual(await received(), ["true"]);
  });

  it("drops ARP that claims another's address", async () => {
    await a2.ip("address add 10.240.1.77/24 dev eth0");
    await pings(host.namespace, "10.240.1.77");
    await a2.tryRun("ping", ["-c1", "-W1", "-I", "10.240.1.77", "10.240.1.3"]);
    await a2.ip("address del 10.240.1.77/24 dev eth0");
    for (const namespace of [host.namespace, a3]) {
      const neighbours = await namespace.run("ip", ["neighbour", "show", "10.240.1.77"]);
      assert.doesNotMatch(neighbours, /lladdr/);
    }
  });

  it("lets neither IPv6 nor VLAN frames in", async (context) => {
    await a2.ip("address add fd00::2/64 dev eth0 nodad");
    await a3.ip("address add fd00::3/64 dev eth0 nodad");
    assert.equal(await pings(a2, "fd00::3"), false);
    const vlan = await a2.tryRun("ip", "link add link eth0 name v5 type vlan id 5".split(" "));
    if (vlan.exitCode !== 0) {
      context.diagnostic("this kernel has no VLAN links: only IPv6 was tried");
      return;
    }
    await a3.ip("link add link eth0 name v5 type vlan id 5");
    for (const [guest, ip] of [
      [a2, 2],
      [a3, 3],
    ] as const) {
      // The identity is the true one: only the tag is wrong.
      await guest.ip(`link set v5 up`, `route add 10.240.1.${5 - ip}/32 dev v5`);
    }
    assert.equal(await pings(a2, "10.240.1.3"), false);
    await a2.ip("link delete v5");
    await a3.ip("link delete v5");
    assert.equal(await pings(a2, "10.240.1.3"), true);
  });

  it("lets no guest past the bridge's rules by a link-local group address", async () => {
    const received = await collect(host.namespace, "7001");
    await a2.ip("neighbour replace 10.240.1.1 lladdr 01:80:c2:00:00:0e dev eth0 nud permanent");
    await a2.node(udpSend, "10.240.1.2", "10.240.1.1", "7001", "to the group");
    await a2.node(udpSend, "10.240.1.2", "198.51.100.1", "7001", "to the group");
    await a2.ip("neighbour del 10.240.1.1 dev eth0");
    assert.deepEqual(await received(), []);
  });

  it("does not tell a guest which other networks the host has", async () => {
    await a2.ip("route add 10.240.2.1/32 dev eth0");
    await pings(a2, "10.240.2.1");
    await a2.ip("route del 10.240.2.1/32 dev eth0");
    assert.doesNotMatch(await a2.run("ip", ["neighbour", "show", "10.240.2.1"]), /lladdr/);
  });

  it("holds where bridged frames are sent through the inet tables too", async (context) => {
    if (!(await bridgeNetfilter(host, "1"))) {
      context.skip("br_netfilter is not loaded");
      return;
    }
    assert.deepEqual(await reaches(a2, "10.240.1.3:8000", "10.240.2.2:8000"), ["10.240.1.2", ""]);
    await bridgeNetfilter(host, "0");
  });

  it("changes nothing when it is applied again", async () => {
    const earlier = await snapshot(host);
    await host.apply(both);
    assert.deepEqual(await snapshot(host), earlier);
  });

  it("puts back what was flushed or removed, and leaves other tables alone", async () => {
    const earlier = await snapshot(host);
    await host.namespace.run("nft", ["flush", "ruleset"]);
    await host.namespace.run("nft", ["add", "table", "ip", "others"]);
    await host.apply(both);
    assert.match(await host.namespace.run("nft", ["list", "tables"]), /table ip others/);
    await host.namespace.run("nft", ["delete", "table", "ip", "others"]);
    assert.deepEqual(await snapshot(host), earlier);
    await host.namespace.ip("link set tn1i2 nomaster", "address flush dev br-tenant-1");
    await host.apply(both);
    assert.deepEqual(await snapshot(host), earlier);
    assert.deepEqual(await reaches(a2, "10.240.1.3:8000", "10.240.2.2:8000"), ["10.240.1.2", ""]);
  });

  it("tells a running DNS server about new names, and replaces a dead one", async () => {
    const [pid] = await dnsPids(host);
    const [first, second] = tenantA.ports;
    assert.ok(first !== undefined && second !== undefined);
    const renamed = { ...tenantA, ports: [first, { ...second, names: ["i-3.api.mvm"] }] };
    await host.apply([renamed, tenantB]);
    assert.deepEqual(
      await eventually(() => resolves(a2, "10.240.1.1", "i-3.api.mvm"), ["10.240.1.3"]),
      ["10.240.1.3"],
    );
    assert.equal((await dnsPids(host))[0], pid);
    process.kill(Number(pid), "SIGKILL");
    await host.apply(both);
    assert.notEqual((await dnsPids(host))[0], pid);
    assert.deepEqual(await resolves(a2, "10.240.1.1", "web.mvm"), {
      "web.mvm": ["10.240.1.2", "10.240.1.3"],
    });
  });

  it("forgets the neighbour of a released address, and its port", async () => {
    assert.equal(await pings(host.namespace, "10.240.1.3"), true);
    const show = ["neighbour", "show", "10.240.1.3"];
    assert.match(await host.namespace.run("ip", show), /lladdr/);
    const found = await host.apply([tenantState(1, [2]), tenantB]);
    assert.deepEqual(found.taps, ["tn1i2", "tn2i2"]);
    assert.doesNotMatch(await host.namespace.run("ip", show), /lladdr/);
  });

  it("leaves the host as it was when the last tenant goes", async () => {
    assert.equal(await ipForward(host), "1");
    assert.deepEqual(await host.apply([]), {
      bridges: [],
      taps: [],
      dnsServers: [],
      filterTables: [],
      namespaces: [],
    });
    assert.equal(await ipForward(host), "0");
    assert.equal((await host.namespace.run("nft", ["list", "ruleset"])).trim(), "");
    assert.doesNotMatch(await host.namespace.run("ip", ["address", "show"]), /br-tenant|tn\d/);
  });
});

describe("tenant networks with TAPs", { skip, timeout: 120_000 }, () => {
  it("converges after being cut off anywhere, beside another node on the same machine", async () => {
    await using first = await NetworkHost.make("first", "127.0.0.1", ["tun"]);
    await using second = await NetworkHost.make("second", "127.0.0.1", ["tun"]);
    await second.apply([tenantA]);
    const [neighbourPid] = await dnsPids(second);
    for (const afterMs of [150, 250, 350, 500]) {
      await first.applyCutOff(both, afterMs);
      await first.applyCutOff([], afterMs);
    }
    await first.namespace.ip("tuntap add dev tn9i9 mode tap", "link add br-tenant-9 type bridge");
    assert.deepEqual(await first.apply(both), {
      bridges: ["br-tenant-1", "br-tenant-2"],
      taps: ["tn1i2", "tn1i3", "tn2i2"],
      dnsServers: [1, 2],
      filterTables: ["inet", "bridge"],
      namespaces: [],
    });
    const earlier = await snapshot(first);
    await first.apply(both);
    assert.deepEqual(await snapshot(first), earlier);
    await first.apply([]);
    assert.equal(await ipForward(first), "0");
    assert.deepEqual((await second.inventory()).bridges, ["br-tenant-1"]);
    assert.deepEqual(await dnsPids(second), [neighbourPid]);
  });

  it("asks a resolver that listens on the host's loopback", async () => {
    await using host = await NetworkHost.make("loopback", "127.0.0.53", ["tun"]);
    await host.apply([tenantA]);
    await host.namespace.startNode(dnsServer, "127.0.0.53", "192.0.2.78");
    assert.deepEqual(await resolves(host.namespace, "10.240.1.1", "example.test"), {
      "example.test": ["192.0.2.78"],
    });
  });

  it("refuses a name that another kind of link has, and leaves that link alone", async () => {
    await using host = await NetworkHost.make("taken", "127.0.0.1", ["tun"]);
    await host.namespace.ip("link add tn1i2 type veth peer name other");
    await assert.rejects(host.apply([tenantA]), /tn1i2 exists and is of kind veth/);
    await host.apply([]);
    assert.match(await host.namespace.run("ip", ["link", "show"]), /tn1i2/);
  });

  it("keeps IPv4 forwarding on where it was on before", async () => {
    await using host = await NetworkHost.make("router", "127.0.0.1", ["tun"]);
    await host.namespace.run("dd", ["of=/proc/sys/net/ipv4/ip_forward"], { input: "1" });
    await host.apply([tenantA]);
    await host.apply([]);
    assert.equal(await ipForward(host), "1");
  });
});

function macOf(offset: number): string {
  return `02:6d:76:00:01:0${offset}`;
}

async function pings(from: NetNamespace, ip: string): Promise<boolean> {
  return (await from.tryRun("ping", ["-n", "-c1", "-W1", ip])).exitCode === 0;
}

/** For each `address:port`: the caller's address as the server there saw it, or "" without a connection. */
async function reaches(from: NetNamespace, ...targets: readonly string[]): Promise<string[]> {
  return values(await from.run(process.execPath, ["-e", tcpProbe, ...targets]));
}

function values(json: string): string[] {
  return Object.values(JSON.parse(json) as Record<string, string>);
}

async function resolves(
  from: NetNamespace,
  server: string,
  ...names: readonly string[]
): Promise<Record<string, string[] | string>> {
  const output = await from.run(process.execPath, ["-e", dnsProbe, server, ...names]);
  return JSON.parse(output) as Record<string, string[] | string>;
}

/** Whether bridged frames also pass the inet tables. @returns false where the kernel cannot do that. */
async function bridgeNetfilter(host: NetworkHost, value: "0" | "1"): Promise<boolean> {
  const path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
  const written = await host.namespace.tryRun("dd", [`of=${path}`, "conv=notrunc,nocreat"], {
    input: value,
  });
  return written.exitCode === 0;
}

/** Listens for datagrams; the returned function tells which different ones came. */
async function collect(at: NetNamespace, port: string): Promise<() => Promise<string[]>> {
  const sink = await at.startNode(udpSink, port);
  const lines = new Set<string>();
  sink.stdout?.on("data", (data: Buffer) => {
    for (const line of data.toString().trim().split("\n")) lines.add(line);
  });
  return async () => {
    await sleep(300);
    return [...lines];
  };
}

async function eventually(
  look: () => Promise<Record<string, string[] | string>>,
  wanted: readonly string[],
): Promise<string[] | string | undefined> {
  let found: string[] | string | undefined;
  for (let attempt = 0; attempt < 10; attempt += 1) {
    [found] = Object.values(await look());
    if (String(found) === String(wanted)) break;
    await sleep(100);
  }
  return found;
}

async function dnsPids(host: NetworkHost): Promise<string[]> {
  const { dnsServers } = await host.inventory();
  return await Promise.all(
    dnsServers.map(async (netId) =>
      (await host.namespace.run("cat", [`${host.root}/run/dns/${netId}/dnsmasq.pid`])).trim(),
    ),
  );
}

async function ipForward(host: NetworkHost): Promise<string> {
  return (await host.namespace.run("cat", ["/proc/sys/net/ipv4/ip_forward"])).trim();
}

/** Links, addresses, rules and DNS servers, without what changes by itself. */
async function snapshot(host: NetworkHost): Promise<unknown> {
  const links = JSON.parse(
    await host.namespace.run("ip", ["-json", "-details", "address", "show"]),
  ) as Record<string, unknown>[];
  const rules = JSON.parse(
    await host.namespace.run("nft", ["-j", "list", "ruleset"]),
    (key, value: unknown) => (key === "handle" ? undefined : value),
  ) as unknown;
  return {
    links: links.map(({ ifindex, ifname, address, master, flags, addr_info }) => ({
      ifindex,
      ifname,
      address,
      master,
      flags,
      addr_info,
    })),
    rules,
    dns: await dnsPids(host),
  };
}
