import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { listPids, processArguments } from "../../src/host/processes.ts";
import type { NetNamespace } from "../hosts/net-namespace.ts";
import { echoServer, reachProbe } from "../hosts/probes.ts";
import { NetworkHost, makeGuest, makeOutside, tenantState } from "../hosts/tenant-topology.ts";

const skip = process.getuid?.() === 0 ? false : "network namespaces need root";
const outsideIp = "203.0.113.9";
const openA = tenantState(1, [2, 3]);
const closedA = tenantState(1, [2, 3], { mode: "none" });
const tenantB = tenantState(2, [2]);

describe("the network as it changes", { skip, timeout: 400_000 }, () => {
  const stack = new AsyncDisposableStack();
  let host: NetworkHost;
  let outside: NetNamespace;
  let a2: NetNamespace;
  let b2: NetNamespace;

  before(async () => {
    host = stack.use(await NetworkHost.make("changes", outsideIp, ["tun", "veth"]));
    outside = stack.use(await makeOutside(host, [outsideIp]));
    a2 = stack.use(await makeGuest(host, openA, 2));
    stack.use(await makeGuest(host, openA, 3));
    b2 = stack.use(await makeGuest(host, tenantB, 2));
    await host.apply([openA, tenantB]);
    await outside.startNode(echoServer, outsideIp, "8000");
    await host.namespace.startNode(echoServer, "0.0.0.0", "8000");
  });
  after(async () => {
    await stack.disposeAsync();
  });

  it("loads no rule anew when nothing changed, and keeps handles and other tables", async () => {
    await host.namespace.run("nft", ["add", "table", "ip", "others"]);
    const before = await host.namespace.run("nft", ["-a", "list", "ruleset"]);
    await host.apply([openA, tenantB]);
    assert.equal(await host.namespace.run("nft", ["-a", "list", "ruleset"]), before);
    await host.namespace.run("nft", ["delete", "table", "ip", "others"]);
  });

  it("cuts a flow that its policy no longer allows, both ways, and forgets it", async () => {
    for (const talker of [outside, a2]) {
      const flow = await startFlow(a2, outside, talker);
      assert.ok((await flow.heardIn(400)) > 0, "it does not flow");
      await host.apply([closedA, tenantB]);
      assert.equal(await connections(host, "10.240.1.2"), 0);
      await flow.heardIn(100);
      assert.equal(await flow.heardIn(600), 0);
      await flow.end();
      await host.apply([openA, tenantB]);
    }
  });

  it("judges answers under the policy too, should the flow not have been forgotten", async () => {
    const flow = await startFlow(a2, outside, outside);
    assert.ok((await flow.heardIn(400)) > 0, "it does not flow");
    const element = '{ "br-tenant-1" . 10.240.1.2 }';
    await host.namespace.run("nft", ["delete", "element", "inet", "mvm", "answers", element]);
    await flow.heardIn(100);
    assert.equal(await flow.heardIn(600), 0);
    await flow.end();
    await host.apply([openA, tenantB]);
  });

  it("keeps a flow that is still allowed when another tenant changes", async () => {
    const flow = await startFlow(a2, outside, outside);
    await host.apply([openA]);
    await host.apply([openA, tenantB]);
    assert.ok((await flow.heardIn(400)) > 0);
    await flow.end();
  });

  it("forgets the connections of an address that is given up or given to another", async () => {
    await reached(a2, `tcp:${outsideIp}:8000`);
    assert.notEqual(await connections(host, "10.240.1.2"), 0);
    const [first, ...rest] = openA.ports;
    assert.ok(first !== undefined);
    const handed = { ...openA, ports: [{ ...first, owner: "tenant-1/web/i-9" }, ...rest] };
    await host.apply([handed, tenantB]);
    assert.equal(await connections(host, "10.240.1.2"), 0);
    await host.apply([openA, tenantB]);
  });

  it("names what was tampered with, changes nothing by looking, and is put right by the next change", async () => {
    const both = [openA, tenantB];
    assert.deepEqual(await host.verify(both), []);
    for (const { command, named } of tamperings) {
      await host.namespace.run(command[0] ?? "", command.slice(1));
      const found = await host.verify(both);
      assert.match(found.join("\n"), named, command.join(" "));
      assert.deepEqual(await host.verify(both), found, "looking changed something");
      await host.apply(both);
      assert.deepEqual(await host.verify(both), [], command.join(" "));
    }
  });

  it("names a setting that is not as it must be, and a DNS server that is gone", async () => {
    const path = "/proc/sys/net/ipv4/conf/br-tenant-1/arp_ignore";
    await host.namespace.run("dd", [`of=${path}`], { input: "0" });
    const [pid] = await dnsPids(host, "1");
    process.kill(Number(pid), "SIGKILL");
    assert.deepEqual(await host.verify([openA, tenantB]), [
      `setting ${path}: is not 1`,
      "dns DNS server 1: does not run",
    ]);
    await host.apply([openA, tenantB]);
    assert.deepEqual(await host.verify([openA, tenantB]), []);
  });

  it("is not led to restart a DNS server by a guest's connection or by another's program", async () => {
    const [pid] = await dnsPids(host, "1");
    assert.ok(pid !== undefined);
    const held = await a2.startNode(holdConnection, "10.240.1.1", "53");
    const config = `--conf-file=${host.root}/run/dns/1/dnsmasq.conf`;
    // It reads its input, which nobody writes, with the arguments of the server.
    const shell = spawn(
      "setpriv",
      ["--reuid=65534", "--clear-groups", "/bin/bash", "-c", "read -r line", "dnsmasq", config],
      { stdio: ["pipe", "ignore", "ignore"] },
    );
    await sleep(500);
    try {
      assert.ok((await programsWith(config)).length >= 3, "server, its child and the impostor");
      await host.apply([openA, tenantB]);
      assert.deepEqual(await dnsPids(host, "1"), [pid]);
      assert.deepEqual(await host.verify([openA, tenantB]), []);
      assert.equal(shell.exitCode, null, "another's program was ended");
    } finally {
      shell.kill("SIGKILL");
      held.kill("SIGKILL");
    }
  });

  it("keeps what a tenant had whose records cannot be read, and gives it nothing new", async () => {
    const unreadable = { keepUnknown: true };
    await host.apply([tenantState(2, [2, 3])], unreadable);
    assert.deepEqual(await reached(a2, `tcp:${outsideIp}:8000`, "tcp:10.240.1.1:53"), [
      "tcp:10.240.1.1:53",
      `tcp:${outsideIp}:8000`,
    ]);
    assert.deepEqual(await reached(a2, "tcp:10.240.2.2:8000", "tcp:198.51.100.1:8000"), []);
    assert.deepEqual(await host.verify([tenantState(2, [2, 3])], unreadable), []);
  });

  it("lets nothing through for links that no record and nothing applied before explains", async () => {
    const unreadable = { keepUnknown: true };
    await host.namespace.run("rm", [`${host.root}/run/network-applied.json`]);
    await host.apply([], unreadable);
    const places = [`tcp:${outsideIp}:8000`, "tcp:198.51.100.1:8000", "tcp:10.240.1.1:8000"];
    for (const guest of [a2, b2]) assert.deepEqual(await reached(guest, ...places), []);
    assert.deepEqual(await reached(a2, "tcp:10.240.1.1:53", "icmp:10.240.1.1"), []);
    await host.apply([openA, tenantB]);
    assert.deepEqual(await reached(a2, `tcp:${outsideIp}:8000`), [`tcp:${outsideIp}:8000`]);
  });

  it("sends probes through the rules that are in force, and finds one that is missing", async () => {
    const whole = await host.probe();
    assert.deepEqual(wrong(whole), []);
    assert.ok(whole.probes.length >= 20);
    assert.match(whole.rules, /table inet mvm[^]*table bridge mvm/);
    for (const [family, chain, rule, probe] of weakenings) {
      const listed = await host.namespace.run("nft", ["-a", "list", "chain", family, "mvm", chain]);
      const handle = new RegExp(`"${rule}" # handle (\\d+)`).exec(listed)?.[1] ?? "";
      await host.namespace.run("nft", ["delete", "rule", family, "mvm", chain, "handle", handle]);
      assert.ok(wrong(await host.probe()).includes(probe), rule);
      await host.apply([openA, tenantB]);
    }
    const { namespaces } = await host.inventory();
    assert.deepEqual(namespaces, []);
  });

  it("probes the rules that would be where there are none", async () => {
    await host.namespace.run("nft", ["flush", "ruleset"]);
    assert.deepEqual(wrong(await host.probe()), []);
    assert.equal((await host.namespace.run("nft", ["list", "ruleset"])).trim(), "");
    await host.apply([openA, tenantB]);
  });
});

describe("the user of a TAP", { skip, timeout: 120_000 }, () => {
  it("is the uid of its VMM, and one that anyone may open is named", async () => {
    await using host = await NetworkHost.make("taps", "127.0.0.1", ["tun"]);
    await host.namespace.ip("tuntap add dev tn1i3 mode tap");
    await host.apply([openA]);
    const shown = await host.namespace.run("ip", ["-details", "link", "show", "tn1i2"]);
    assert.match(shown, /user 900258/);
    assert.deepEqual(await host.verify([openA]), [
      "tap tn1i3: can be opened by anyone, not by uid 900259 of tenant-1/web/i-3 alone",
    ]);
  });
});

/** What is done to the host, and how it is named. */
const tamperings: readonly { command: readonly string[]; named: RegExp }[] = [
  {
    command: ["nft", "flush", "chain", "bridge", "mvm", "from_port"],
    named: /chain from_port: the rule "no other frame enters" is not there/,
  },
  {
    command: ["nft", "insert", "rule", "inet", "mvm", "from_guest", "accept"],
    named: /chain from_guest: a rule is not mvm's: .*accept/,
  },
  { command: ["nft", "delete", "table", "bridge", "mvm"], named: /table bridge mvm: is not there/ },
  { command: ["nft", "flush", "ruleset"], named: /table inet mvm: is not there/ },
  {
    command: ["nft", "delete", "element", "inet", "mvm", "closed", "{ 169.254.0.0/16 }"],
    named: /set closed: is not as it should be/,
  },
  {
    command: [
      "nft",
      "add",
      "element",
      "bridge",
      "mvm",
      "identities",
      '{ "tn1i2" . 02:6d:76:00:01:03 . 10.240.1.3 }',
    ],
    named: /set identities: is not as it should be/,
  },
  {
    command: ["nft", "add", "chain", "inet", "mvm", "input", "{ policy drop ; }"],
    named: /chain input: is not as it should be/,
  },
  {
    command: ["nft", "add", "table", "inet", "mvm", "{ flags dormant ; }"],
    named: /table inet mvm: is not as it should be/,
  },
  {
    command: ["ip", "address", "add", "192.0.2.1/24", "dev", "br-tenant-1"],
    named: /address br-tenant-1: has an address that is not its own: 192\.0\.2\.1\/24/,
  },
  {
    command: ["ip", "address", "flush", "dev", "br-tenant-1"],
    named: /address br-tenant-1: lacks its address 10\.240\.1\.1\/24/,
  },
  {
    command: ["ip", "link", "set", "tn1i2", "master", "br-tenant-2"],
    named: /tap tn1i2: is on br-tenant-2, not on br-tenant-1/,
  },
  { command: ["ip", "link", "set", "br-tenant-2", "down"], named: /link br-tenant-2: is down/ },
  {
    command: ["ip", "link", "set", "br-tenant-2", "address", "02:00:00:00:00:01"],
    named: /link br-tenant-2: has the MAC/,
  },
  {
    command: ["ip", "link", "add", "br-tenant-7", "type", "bridge"],
    named: /link br-tenant-7: no record asks for it/,
  },
];

/** Rules without which a probe is wrong, where no other rule holds in their stead: family, chain, comment, probe. */
const weakenings = [
  ["inet", "from_guest", "the pool's egress policy", "guest, egress open → outside"],
  ["inet", "guest_to_host", "nothing else of the host", "guest → another address of the host"],
  ["inet", "output", "a VMM sends nothing itself", "a VMM's own uid → outside"],
  ["bridge", "from_port", "no other frame enters", "guest → guest by IPv6"],
] as const;

function wrong({ probes }: Awaited<ReturnType<NetworkHost["probe"]>>): string[] {
  return probes.filter(({ allowed, passed }) => allowed !== passed).map(({ what }) => what);
}

async function reached(from: NetNamespace, ...places: readonly string[]): Promise<string[]> {
  const output = await from.run(process.execPath, ["-e", reachProbe, ...places]);
  return (JSON.parse(output) as string[]).toSorted();
}

/** How many connections the host's kernel knows that an address began. */
async function connections(host: NetworkHost, address: string): Promise<number> {
  const table = await host.namespace.run("conntrack", ["-L", "-f", "ipv4", "--src", address]);
  return table.trim() === "" ? 0 : table.trim().split("\n").length;
}

/** Holds a TCP connection. Arguments: address, port. */
const holdConnection = `
const [host, port] = process.argv.slice(1);
require("node:net").connect({ host, port: Number(port) }, () => console.log("ready"));`;

/** Sends a datagram each 50 ms once there was one, or from the start. Arguments: \`listen\` or an address, \`talk\` or \`hear\`. */
const flowEnd = `
const [host, role] = process.argv.slice(1);
const socket = require("node:dgram").createSocket("udp4");
let peer = host === "listen" ? undefined : { address: host, port: 7777 };
socket.on("message", (_, from) => { peer ??= from; if (role === "hear") console.log("heard"); });
socket.bind(host === "listen" ? 7777 : 7778, host === "listen" ? "${outsideIp}" : undefined, () => {
  console.log("ready");
  if (peer !== undefined) socket.send("x", peer.port, peer.address);
  if (role === "talk") setInterval(() => { if (peer !== undefined) socket.send("x", peer.port, peer.address, () => {}); }, 50);
});`;

interface Flow {
  /** How many datagrams came in so many milliseconds from now. */
  heardIn(ms: number): Promise<number>;
  end(): Promise<void>;
}

/** A flow of datagrams that `guest` begins; after its first only `talker` sends. */
async function startFlow(
  guest: NetNamespace,
  outside: NetNamespace,
  talker: NetNamespace,
): Promise<Flow> {
  const role = (end: NetNamespace): string => (end === talker ? "talk" : "hear");
  const ends = [
    await outside.startNode(flowEnd, "listen", role(outside)),
    await guest.startNode(flowEnd, outsideIp, role(guest)),
  ];
  const hearer = ends[talker === outside ? 1 : 0];
  let heard = 0;
  hearer?.stdout?.on("data", (data: Buffer) => {
    heard += data.toString().split("heard").length - 1;
  });
  return {
    async heardIn(ms) {
      const before = heard;
      await sleep(ms);
      return heard - before;
    },
    async end() {
      for (const end of ends) {
        const ended = once(end, "exit");
        end.kill("SIGKILL");
        await ended;
      }
    },
  };
}

async function dnsPids(host: NetworkHost, key: string): Promise<string[]> {
  const path = `${host.root}/run/dns/${key}/dnsmasq.pid`;
  return [(await host.namespace.run("cat", [path])).trim()];
}

/** The programs of this machine that have an argument. */
async function programsWith(argument: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await listPids()) {
    if ((await processArguments(pid))?.includes(argument) === true) found.push(pid);
  }
  return found;
}
