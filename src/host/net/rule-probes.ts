import { instanceNetwork, tenantNetwork, vmUid } from "../../domain/address-plan.ts";
import { HostLacksError } from "../../domain/errors.ts";
import type { EgressPolicy } from "../../domain/egress.ts";
import type { NetworkProbe, ProbeReport, TenantNetworkState } from "../../ports/network.ts";
import { bridgeMac } from "./links.ts";
import { renderElements, renderRuleset } from "./ruleset.ts";
import type { ScratchNamespace, ScratchNamespaces } from "./scratch-namespaces.ts";

interface RuleProbeInput {
  /** The rules that are in force, as `nft` prints them; empty to probe those that would be. */
  readonly rules: string;
  readonly vmUidBase: number;
}

// All from the ranges for documentation, RFC 5737, but the metadata address.
const uplinkHost = "198.51.100.1";
const uplinkRouter = "198.51.100.2";
const uplinkNetwork = "198.51.100.0/24";
const outsideIp = "203.0.113.9";
const metadataIp = "169.254.169.254";
const anyPort = 8000;
const dnsPort = 53;

/** A stand-in host with guests of two tenants and an outside, each a namespace. */
interface Stage {
  readonly host: ScratchNamespace;
  readonly outside: ScratchNamespace;
  readonly open: ScratchNamespace;
  readonly none: ScratchNamespace;
  readonly other: ScratchNamespace;
  readonly own: TenantNetworkState;
  readonly foreign: TenantNetworkState;
}

/** One question of a probe: from where the connection starts, where it goes, and whether it may. */
interface Question {
  readonly what: string;
  readonly allowed: boolean;
  readonly target: Target;
}

interface Target {
  readonly host: string;
  readonly port: number;
  readonly localAddress?: string;
}

/**
 * Sends connections of stand-in guests through rules, and tells which passed. Nothing listens at
 * their ends: a refusal that comes back has passed both ways, and silence has not.
 */
export async function probeRules(
  namespaces: ScratchNamespaces,
  { rules, vmUidBase }: RuleProbeInput,
): Promise<ProbeReport> {
  await using stack = new AsyncDisposableStack();
  const make = async (label: string): Promise<ScratchNamespace> =>
    stack.use(await namespaces.make(label));
  const [foreign, own] = standIns(rules);
  const stage: Stage = {
    host: await make("host"),
    outside: await make("outside"),
    open: await make("open"),
    none: await make("none"),
    other: await make("other"),
    own,
    foreign,
  };
  await setUp(stage);
  const shown =
    rules === ""
      ? renderRuleset([own, foreign], { vmUidBase, hostNetworks: [uplinkNetwork] })
      : rules;
  const elements = `${renderElements([own, foreign])}add element inet mvm closed { ${uplinkNetwork} }\n`;
  const loaded = await stage.host.tryRun("nft", ["-f", "-"], {
    input: rules === "" ? shown : rules + elements,
  });
  if (loaded.exitCode !== 0) {
    throw new HostLacksError(
      `the rules of this host cannot be probed, since stand-in guests do not fit in: ${loaded.stderr.trim().slice(0, 300)}`,
      { hint: "they are not mvm's: put them back with `mvm net repair`" },
    );
  }
  return { rules: shown, probes: await ask(stage, vmUidBase) };
}

/** Two tenants with net ids that no rule names. */
function standIns(rules: string): [TenantNetworkState, TenantNetworkState] {
  const free = (from: number): number => {
    for (let netId = from; ; netId -= 1) {
      if (!rules.includes(`"${tenantNetwork(netId).bridge}"`)) return netId;
    }
  };
  const foreign = free(4095);
  const own = free(foreign - 1);
  return [standIn(foreign, [{ mode: "open" }]), standIn(own, [{ mode: "open" }, { mode: "none" }])];
}

function standIn(netId: number, policies: readonly EgressPolicy[]): TenantNetworkState {
  return {
    tenantId: `probe-${netId}`,
    network: tenantNetwork(netId),
    ports: policies.map((egress, index) => ({
      ...instanceNetwork(netId, index + 2),
      owner: `probe-${netId}/${egress.mode}`,
      names: [],
      egress,
    })),
  };
}

async function setUp(stage: Stage): Promise<void> {
  const { host, outside, own, foreign } = stage;
  const [openPort, nonePort] = own.ports;
  const [otherPort] = foreign.ports;
  const guests = [
    { namespace: stage.open, tenant: own, port: openPort, index: 2 },
    { namespace: stage.none, tenant: own, port: nonePort, index: 3 },
    { namespace: stage.other, tenant: foreign, port: otherPort, index: 4 },
  ];
  await ip(
    host,
    "link set lo up",
    ...[own, foreign].flatMap(({ network }) => [
      `link add name ${network.bridge} address ${bridgeMac(network.netId)} type bridge`,
      `address add ${network.gatewayIp}/24 dev ${network.bridge}`,
      `link set ${network.bridge} up`,
    ]),
    `link add uplink type veth peer name eth0 netns ${outside.name}`,
    `address add ${uplinkHost}/24 dev uplink`,
    "link set uplink up",
    `route add default via ${uplinkRouter}`,
    ...guests.flatMap(({ namespace, tenant, port }) => [
      `link add ${port?.tap} type veth peer name eth0 netns ${namespace.name}`,
      `link set ${port?.tap} master ${tenant.network.bridge}`,
      `link set ${port?.tap} up`,
    ]),
  );
  await host.run("dd", ["of=/proc/sys/net/ipv4/ip_forward"], { input: "1" });
  await ip(
    outside,
    "link set lo up",
    `address add ${uplinkRouter}/24 dev eth0`,
    "link set eth0 up",
    `address add ${outsideIp}/32 dev lo`,
    `address add ${metadataIp}/32 dev lo`,
    `route add 10.240.0.0/12 via ${uplinkHost} src ${outsideIp}`,
  );
  for (const { namespace, tenant, port, index } of guests) {
    await ip(
      namespace,
      "link set lo up",
      `link set eth0 address ${port?.mac}`,
      `address add ${port?.ip}/24 dev eth0`,
      `address add fd00::${index}/64 dev eth0 nodad`,
      "link set eth0 up",
      `route add default via ${tenant.network.gatewayIp}`,
    );
  }
}

async function ask(stage: Stage, vmUidBase: number): Promise<NetworkProbe[]> {
  const { own, foreign } = stage;
  const address = (tenant: TenantNetworkState, offset: number): string =>
    instanceNetwork(tenant.network.netId, offset).ip;
  const [openIp, noneIp, otherIp] = [address(own, 2), address(own, 3), address(foreign, 2)];
  const spare = address(own, 77);
  const uid = vmUid(vmUidBase, own.network.netId, 2);
  const to = (host: string, port = anyPort): Target => ({ host, port });
  const question = (what: string, allowed: boolean, target: Target): Question => ({
    what,
    allowed,
    target,
  });
  const rounds = await Promise.all([
    connect(stage.open, [
      question("guest → guest of the same tenant", true, to(noneIp)),
      question("guest → its gateway, DNS", true, to(own.network.gatewayIp, dnsPort)),
      question("guest → its gateway, another port", false, to(own.network.gatewayIp)),
      question("guest → another address of the host", false, to(uplinkHost)),
      question("guest → another tenant's guest", false, to(otherIp)),
      question("guest → another tenant's gateway", false, to(foreign.network.gatewayIp)),
      question(
        "guest → another tenant's gateway, DNS",
        false,
        to(foreign.network.gatewayIp, dnsPort),
      ),
      question("guest, egress open → outside", true, to(outsideIp)),
      question("guest, egress open → metadata service", false, to(metadataIp)),
      question("guest, egress open → the host's network", false, to(uplinkRouter)),
      question("guest → guest by IPv6", false, to("fd00::3")),
    ]),
    connect(stage.none, [
      question("guest, egress none → outside", false, to(outsideIp)),
      question("guest, egress none → its gateway, DNS", true, to(own.network.gatewayIp, dnsPort)),
    ]),
    connect(stage.other, [
      question("another tenant's guest → guest", false, to(openIp)),
      question("another tenant's guest → outside", true, to(outsideIp)),
    ]),
    connect(stage.outside, [
      question("outside → guest", false, to(openIp)),
      question("outside → gateway", false, to(own.network.gatewayIp, dnsPort)),
    ]),
    connect(stage.host, [question("host → guest", true, to(openIp))]),
    connect(stage.host, [question("a VMM's own uid → outside", false, to(outsideIp))], uid),
  ]);
  // What follows changes the guest, so it comes after what needs it as it is.
  await ip(stage.open, `address add ${spare}/24 dev eth0`);
  const falseAddress = await connect(stage.open, [
    question("guest with an address not its own → guest", false, {
      ...to(noneIp),
      localAddress: spare,
    }),
  ]);
  await ip(stage.open, "link set eth0 address 02:6d:76:ff:ff:ff");
  const falseMac = await connect(stage.open, [
    question("guest with a MAC not its own → guest", false, to(noneIp)),
  ]);
  return [...rounds.flat(), ...falseAddress, ...falseMac];
}

/** Tries all connections at once. As `uid` if given. */
const connectScript = `
const net = require("node:net");
const { uid, targets } = JSON.parse(process.argv[1]);
if (uid !== undefined) { process.setgroups([]); process.setgid(uid); process.setuid(uid); }
const one = (target) => new Promise((resolve) => {
  const socket = net.connect(target);
  const end = (passed) => { socket.destroy(); resolve(passed); };
  socket.setTimeout(1500, () => end(false))
    .on("error", (error) => end(error.code === "ECONNREFUSED"))
    .on("connect", () => end(true));
});
Promise.all(targets.map(one)).then((all) => console.log(JSON.stringify(all)));`;

async function connect(
  from: ScratchNamespace,
  questions: readonly Question[],
  uid?: number,
): Promise<NetworkProbe[]> {
  const input = JSON.stringify({ uid, targets: questions.map(({ target }) => target) });
  const output = await from.run(process.execPath, ["-e", connectScript, input]);
  const passed = JSON.parse(output) as boolean[];
  return questions.map(({ what, allowed }, index) => ({
    what,
    allowed,
    passed: passed[index] === true,
  }));
}

async function ip(namespace: ScratchNamespace, ...lines: readonly string[]): Promise<void> {
  await namespace.run("ip", ["-batch", "-"], { input: `${lines.join("\n")}\n` });
}
