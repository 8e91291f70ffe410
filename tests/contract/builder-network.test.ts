import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { BuilderLink } from "../../src/ports/builder-network.ts";
import { prepareForBuilds } from "./builder-host.ts";
import { NetNamespace, connect } from "../hosts/net-namespace.ts";
import { dnsProbe, dnsServer, tcpProbe, tcpServer, udpSend, udpSink } from "../hosts/probes.ts";
import { NetworkHost, makeGuest, makeOutside, tenantState } from "../hosts/tenant-topology.ts";

const skip = process.getuid?.() === 0 ? false : "network namespaces need root";
const driver = new URL("../hosts/builder-network-driver.ts", import.meta.url).pathname;
const buildDriver = new URL("../hosts/networked-build-driver.ts", import.meta.url).pathname;
const outsideIp = "203.0.113.9";
const tenant = tenantState(1, [2]);
const buildId = "b-0badcafe";
const otherBuildId = "b-00c0ffee";

describe("the network of a builder that may use one", { skip, timeout: 400_000 }, () => {
  const stack = new AsyncDisposableStack();
  let host: NetworkHost;
  let guest: NetNamespace;
  let builder: NetNamespace;
  let other: NetNamespace;
  let outside: NetNamespace;
  let link: BuilderLink;

  const call = (name: string, id = buildId, resolvConf = join(host.root, "resolv.conf")) =>
    host.namespace.tryRun(process.execPath, [
      driver,
      join(host.root, "state"),
      resolvConf,
      name,
      id,
    ]);

  /** Opens a builder's network; a namespace stands for the builder, since a TAP cannot end in one. */
  async function openBuilder(id: string): Promise<{ namespace: NetNamespace; link: BuilderLink }> {
    const { stdout, stderr } = await call("open", id);
    assert.equal(stderr, "");
    const link = JSON.parse(stdout) as BuilderLink;
    const shown = await host.namespace.run("ip", ["-details", "link", "show", link.tap]);
    assert.match(shown, /user 899998/, "any program could open it");
    const namespace = stack.use(await NetNamespace.make(id));
    await host.namespace.ip(`link delete dev ${link.tap}`);
    await connect(host.namespace, namespace, [link.tap, "eth0"]);
    await host.namespace.ip(
      `link set dev ${link.tap} master mvmb-${id.slice(2)}`,
      `link set dev ${link.tap} up`,
    );
    await namespace.ip(
      `link set eth0 address ${link.mac}`,
      `address add ${link.guest} dev eth0`,
      "link set eth0 up",
      `route add default via ${link.gateway}`,
    );
    await namespace.startNode(tcpServer, "8000", "0.0.0.0");
    return { namespace, link };
  }

  const reaches = async (from: NetNamespace, ...targets: string[]): Promise<string[]> => {
    const { stdout } = await from.node(tcpProbe, ...targets);
    const answers = JSON.parse(stdout) as Record<string, string>;
    return targets.map((target) => answers[target] ?? "");
  };

  before(async () => {
    host = stack.use(await NetworkHost.make("bhost", outsideIp, ["tun", "veth"]));
    outside = stack.use(await makeOutside(host, [outsideIp, "169.254.169.254", "10.240.9.9"]));
    guest = stack.use(await makeGuest(host, tenant, 2));
    await host.apply([tenant]);
    for (const namespace of [guest, outside, host.namespace]) {
      await namespace.startNode(tcpServer, "8000", "0.0.0.0");
    }
    await outside.startNode(dnsServer, outsideIp, "192.0.2.77");
    // From an address that is no neighbour of the host: a builder may answer those.
    await outside.ip(`route add 198.18.0.0/15 via 198.51.100.1 src ${outsideIp}`);
    ({ namespace: builder, link } = await openBuilder(buildId));
    ({ namespace: other } = await openBuilder(otherBuildId));
  });
  after(() => stack.disposeAsync());

  it("leads outside, by the host's address", async () => {
    assert.deepEqual(await reaches(builder, `${outsideIp}:8000`), ["198.51.100.1"]);
  });

  it("lets it ask the host's own resolvers for names", async () => {
    assert.deepEqual(link.resolvers, [outsideIp]);
    const { stdout } = await builder.node(dnsProbe, outsideIp, "example.org");
    assert.deepEqual(JSON.parse(stdout), { "example.org": ["192.0.2.77"] });
  });

  it("reaches no tenant, no service of the host, no metadata service and no neighbour of the host", async () => {
    const closed = [
      "10.240.1.2:8000",
      "10.240.1.1:8000",
      "10.240.1.1:53",
      `${link.gateway}:8000`,
      "198.51.100.1:8000",
      "198.51.100.2:8000",
      "169.254.169.254:8000",
      "10.240.9.9:8000",
    ];
    assert.deepEqual(
      await reaches(builder, ...closed),
      closed.map(() => ""),
    );
    const { exitCode } = await builder.tryRun("ping", ["-c", "1", "-W", "1", link.gateway]);
    assert.notEqual(exitCode, 0);
  });

  it("is reached by nobody: no tenant, no other builder, nobody outside", async () => {
    const target = `${link.guest.split("/")[0]}:8000`;
    for (const from of [guest, other, outside]) assert.deepEqual(await reaches(from, target), [""]);
  });

  it("keeps builders apart", async () => {
    assert.deepEqual(await reaches(other, `${link.guest.split("/")[0]}:8000`), [""]);
    assert.deepEqual(await reaches(other, `${outsideIp}:8000`), ["198.51.100.1"]);
  });

  it("lets nothing through under another address", async () => {
    const sink = await outside.startNode(udpSink, "9000");
    let received = "";
    sink.stdout?.on("data", (data) => {
      received += String(data);
    });
    const own = link.guest.split("/")[0] ?? "";
    await builder.ip("address add 198.18.77.77/32 dev eth0");
    await builder.node(udpSend, "198.18.77.77", outsideIp, "9000", "forged");
    await builder.node(udpSend, own, outsideIp, "9000", "honest");
    for (let tries = 0; tries < 50 && !received.includes("honest"); tries += 1) await sleep(100);
    assert.match(received, /honest/);
    assert.doesNotMatch(received, /forged/);
  });

  it("stays as it is when the tenants' rules are made anew", async () => {
    await host.apply([tenant]);
    assert.deepEqual(await reaches(builder, "10.240.1.2:8000", `${outsideIp}:8000`), [
      "",
      "198.51.100.1",
    ]);
  });

  it("is not made where the host has no resolver that a guest can ask", async () => {
    const path = join(host.root, "loopback.conf");
    await writeFile(path, "nameserver 127.0.0.53\nnameserver 198.51.100.1\n");
    const { exitCode, stderr } = await call("open", "b-12345678", path);
    assert.equal(exitCode, 1);
    assert.match(stderr, /no DNS server that a builder could ask/);
  });

  it("is no difference of the tenants' networks, which keep forwarding on for it when they go", async () => {
    assert.deepEqual(await host.verify([tenant]), []);
    await host.apply([]);
    const forwarding = await host.namespace.run("cat", ["/proc/sys/net/ipv4/ip_forward"]);
    assert.equal(forwarding.trim(), "1");
    await host.apply([tenant]);
  });

  it("is found by its names and removed whole, and forwarding is as it was after the last network", async () => {
    assert.deepEqual(JSON.parse((await call("list")).stdout), [otherBuildId, buildId]);
    await host.apply([]);
    for (const id of [buildId, otherBuildId, otherBuildId]) {
      assert.equal((await call("close", id)).stderr, "");
    }
    assert.deepEqual(JSON.parse((await call("list")).stdout), []);
    assert.doesNotMatch(await host.namespace.run("nft", ["list", "tables"]), /mvm/);
    const forwarding = await host.namespace.run("cat", ["/proc/sys/net/ipv4/ip_forward"]);
    assert.equal(forwarding.trim(), "0");
  });

  it("is what a build gets that is allowed one, and no other; what a killed one left is swept", async () => {
    await prepareForBuilds();
    assert.equal((await call("open", "b-11111111")).stderr, "");
    const output = await host.namespace.run(
      process.execPath,
      [buildDriver, outsideIp, "8000", "198.51.100.1"],
      { timeoutMs: 300_000 },
    );
    const { without, app, swept, left } = JSON.parse(output) as Record<string, unknown>;
    assert.match(String(without), /derivation fetched failed/);
    assert.equal(app, "198.51.100.1");
    assert.deepEqual(swept, ["network of build b-11111111"]);
    assert.deepEqual(left, []);
    assert.deepEqual(JSON.parse((await call("list")).stdout), []);
  });
});
