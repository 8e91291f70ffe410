import type { EgressPolicy } from "../../domain/egress.ts";
import type { NetworkPort, TenantNetworkState } from "../../ports/network.ts";
import {
  type AllowGroup,
  allowGroups,
  allowKey,
  dnsPort,
  resolverGroups,
  resolverOf,
} from "./egress-groups.ts";

interface RulesetOptions {
  /** First uid of the VMMs. */
  readonly vmUidBase: number;
  /** The networks that the host itself is in, as CIDR: guests do not reach them. */
  readonly hostNetworks: readonly string[];
  /** Tables even without tenants, for links whose records cannot be read: nothing passes for them. */
  readonly closeUnknown?: boolean;
}

/** A set or map, or what is to be in it. */
interface Elements {
  readonly family: "inet" | "bridge";
  readonly kind: "set" | "map";
  readonly name: string;
  readonly type: string;
  readonly elements: readonly string[];
}

/** One uid for each address of the cluster range: 4096 networks of 256. */
const vmUidCount = 1048576;

/** Where no guest may go, whatever its egress policy: metadata services, other tenants, what is no unicast host. */
const closedNetworks = [
  "0.0.0.0/8",
  "10.240.0.0/12",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/3",
];

/** How long an address that a name had stays open after it was asked for or last used. */
const addressTimeout = "1h";
/** How many addresses a list of names holds at most, so that no name can fill the kernel's memory. */
const maxAddresses = 4096;

/** A port and what of its tenant the rules need. */
interface Entry {
  readonly netId: number;
  readonly bridge: string;
  readonly subnet: string;
  readonly gatewayIp: string;
  readonly port: NetworkPort;
  readonly dnsPort: number;
}

/**
 * The packet filter of all tenants as text for `nft -f`: the two tables as they should be, nothing
 * removed. Empty without tenants. Equal arguments give equal text.
 *
 * What has a name of mvm's form and is in no set gets nothing through, so that forgetting to name a
 * link closes it. Tenants and ports are elements of sets, which the kernel looks up by hash; rules
 * are a fixed number and a few for each different allow-list. Each has a comment, which names it
 * when it is missed. Source: nft(8).
 */
export function renderRuleset(
  tenants: readonly TenantNetworkState[],
  options: RulesetOptions,
): string {
  if (tenants.length === 0 && options.closeUnknown !== true) return "";
  return inetTable(tenants, options) + bridgeTable(tenants);
}

/** What stands for these tenants in the sets of a ruleset that is there, as `nft` commands that add it. */
export function renderElements(tenants: readonly TenantNetworkState[]): string {
  return [...inetSets(tenants), ...bridgeSets(tenants)]
    .filter(({ elements }) => elements.length > 0)
    .map(
      ({ family, name, elements }) =>
        `add element ${family} mvm ${name} { ${elements.join(", ")} }\n`,
    )
    .join("");
}

function entriesOf(tenant: TenantNetworkState): Entry[] {
  const groups = resolverGroups(tenant);
  return tenant.ports.map((port) => ({
    ...tenant.network,
    port,
    dnsPort: resolverOf(groups, tenant.network.netId, port).port,
  }));
}

function inetSets(tenants: readonly TenantNetworkState[]): Elements[] {
  const networks = tenants.map((tenant) => tenant.network);
  const entries = tenants.flatMap(entriesOf);
  const ledEntries = entries.filter((entry) => entry.dnsPort !== dnsPort);
  const of = (kind: "set" | "map", name: string, type: string, elements: string[]): Elements => ({
    family: "inet",
    kind,
    name,
    type,
    elements: [...new Set(elements)].toSorted(),
  });
  return [
    of(
      "set",
      "within_tenant",
      "type ifname . ifname",
      networks.map(({ bridge }) => `"${bridge}" . "${bridge}"`),
    ),
    of(
      "set",
      "own_gateway",
      "type ifname . ipv4_addr",
      networks.map(({ bridge, gatewayIp }) => `"${bridge}" . ${gatewayIp}`),
    ),
    of(
      "set",
      "gateways",
      "type ipv4_addr",
      networks.map(({ gatewayIp }) => gatewayIp),
    ),
    of(
      "set",
      "subnets",
      "type ipv4_addr; flags interval",
      networks.map(({ subnet }) => subnet),
    ),
    of(
      "set",
      "resolvers",
      "type ifname . ipv4_addr . ipv4_addr . inet_service",
      entries.map((entry) => `${source(entry)} . ${entry.gatewayIp} . ${entry.dnsPort}`),
    ),
    of(
      "map",
      "resolver_ports",
      "type ifname . ipv4_addr : inet_service",
      ledEntries.map((entry) => `${source(entry)} : ${entry.dnsPort}`),
    ),
    of(
      "map",
      "egress",
      "type ifname . ipv4_addr : verdict",
      entries.map((entry) => `${source(entry)} : ${verdict("to", entry)}`),
    ),
    of(
      "map",
      "answers",
      "type ifname . ipv4_addr : verdict",
      entries.map((entry) => `${source(entry)} : ${verdict("from", entry)}`),
    ),
  ];
}

function bridgeSets(tenants: readonly TenantNetworkState[]): Elements[] {
  const entries = tenants.flatMap(entriesOf);
  const of = (name: string, type: string, elements: string[]): Elements => ({
    family: "bridge",
    kind: "set",
    name,
    type,
    elements: elements.toSorted(),
  });
  return [
    of(
      "identities",
      "type ifname . ether_addr . ipv4_addr",
      entries.map(({ port }) => `"${port.tap}" . ${port.mac} . ${port.ip}`),
    ),
    of(
      "own_subnet",
      "type ifname . ipv4_addr; flags interval",
      entries.map(({ port, subnet }) => `"${port.tap}" . ${subnet}`),
    ),
  ];
}

function inetTable(tenants: readonly TenantNetworkState[], options: RulesetOptions): string {
  const groups = tenants.flatMap(allowGroups);
  const closed = [...new Set([...closedNetworks, ...options.hostNetworks])].toSorted();
  const lastUid = options.vmUidBase + vmUidCount - 1;
  return `table inet mvm {
${tapNames}
${inetSets(tenants).map(declaration).join("\n")}
	set closed {
		type ipv4_addr; flags interval; auto-merge${listed(closed)}
	}
${[...new Set(groups.flatMap(groupSets))].join("")}
	# A frame to a link-local group address (01:80:c2:...) leaves the bridge as traffic of the port
	# itself and passes none of the bridge's rules.
	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		iifname @tap_names drop comment "nothing from a port beside its bridge"
	}

	# Each guest asks its gateway; those with a list of names are led to the server that keeps it.
	chain dns {
		type nat hook prerouting priority dstnat; policy accept;
		iifname . ip daddr @own_gateway meta l4proto { tcp, udp } th dport 53 redirect to :iifname . ip saddr map @resolver_ports comment "DNS to the server of the pool's list"
	}

	chain input {
		type filter hook input priority filter; policy accept;
		iifname "br-tenant-*" goto guest_to_host comment "guests to the host"
		iifname "lo" accept comment "the host to itself"
		# The gateway address is on a bridge, but Linux answers for it on every link.
		ip daddr @gateways ct direction original drop comment "no gateway address from outside"
	}

	chain guest_to_host {
		ct state established,related ct direction reply accept comment "answers to the host"
		iifname . ip daddr @own_gateway icmp type echo-request accept comment "ping of the own gateway"
		# A guest that asks the port of another list's server by itself was not led there.
		iifname . ip saddr . ip daddr . udp dport @resolvers ct original proto-dst 53 accept comment "DNS by UDP"
		iifname . ip saddr . ip daddr . tcp dport @resolvers ct original proto-dst 53 accept comment "DNS by TCP"
		drop comment "nothing else of the host"
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "br-tenant-*" goto from_guest comment "what guests send"
		oifname "br-tenant-*" goto to_guest comment "what guests are sent"
	}

	chain from_guest {
		# Frames between two ports come here too where br_netfilter is loaded.
		iifname . oifname @within_tenant accept comment "within the tenant"
		oifname "br-tenant-*" drop comment "not to another tenant"
		meta nfproto != ipv4 drop comment "IPv4 only"
		# What connection tracking does not know is not masqueraded and would show the guest's address.
		ct state { invalid, untracked } drop comment "nothing unmasqueraded"
		ip daddr @closed drop comment "not to metadata, tenants or the host's networks"
		iifname . ip saddr vmap @egress comment "the pool's egress policy"
		drop comment "no policy, no way out"
	}

	# A policy that changed holds for flows that are there, both ways.
	chain to_guest {
		ct state related icmp type { destination-unreachable, time-exceeded, parameter-problem } accept comment "errors of own flows"
		ct direction original drop comment "nothing new from outside"
		ct state != established drop comment "answers only"
		ip saddr @closed drop comment "not from metadata, tenants or the host's networks"
		oifname . ip daddr vmap @answers comment "answers under the pool's egress policy"
		drop comment "no policy, no answers"
	}

	chain to_open {
		accept comment "egress open"
	}

	chain from_open {
		accept comment "answers under egress open"
	}
${groups.map(groupChains).join("")}
	chain output {
		type filter hook output priority filter; policy accept;
		meta skuid ${options.vmUidBase}-${lastUid} drop comment "a VMM sends nothing itself"
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "lo" accept comment "the host to itself"
		oifname "br-tenant-*" accept comment "guests see who speaks"
		ip saddr @subnets masquerade comment "outside sees the host"
	}
}
`;
}

function bridgeTable(tenants: readonly TenantNetworkState[]): string {
  return `table bridge mvm {
${tapNames}
${bridgeSets(tenants).map(declaration).join("\n")}

	chain prerouting {
		type filter hook prerouting priority dstnat; policy accept;
		iifname @tap_names goto from_port comment "what guests send"
	}

	# \`ether type\` reads the frame itself, so a VLAN tag is none of the two.
	chain from_port {
		ether type ip iifname . ether saddr . ip saddr @identities accept comment "IPv4 with its own MAC and address"
		ether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp operation { request, reply } iifname . arp daddr ip @own_subnet iifname . ether saddr . arp saddr ip @identities iifname . arp saddr ether . arp saddr ip @identities accept comment "ARP with its own MAC and address"
		drop comment "no other frame enters"
	}
}
`;
}

/** Every name a TAP can have: those of no instance are in no other set, and nothing passes for them. */
const tapNames = `	set tap_names {
		type ifname; flags interval
		elements = { ${Array.from({ length: 10 }, (_, digit) => `"tn${digit}*"`).join(", ")} }
	}`;

function source({ bridge, port }: Entry): string {
  return `"${bridge}" . ${port.ip}`;
}

function verdict(direction: "to" | "from", { netId, port }: Entry): string {
  return verdictOf(port.egress, `goto ${direction}_${allowKey(netId, port.egress)}`, direction);
}

function verdictOf(policy: EgressPolicy, allow: string, direction: "to" | "from"): string {
  switch (policy.mode) {
    case "open":
      return `goto ${direction}_open`;
    case "none":
      return "drop";
    case "allow":
      return allow;
  }
}

/** The sets of an allow-list. The one of addresses has no elements here: the tenant's DNS server fills it. */
function groupSets({ key, policy, addressSet }: AllowGroup): string[] {
  const sets: string[] = [];
  if (policy.cidrs.length > 0) {
    const type = "type ipv4_addr; flags interval; auto-merge";
    sets.push(`\tset cidrs_${key} {\n\t\t${type}${listed(policy.cidrs)}\n\t}\n`);
  }
  if (addressSet !== undefined) {
    sets.push(
      `\tset ${addressSet} {\n\t\ttype ipv4_addr; flags dynamic,timeout; timeout ${addressTimeout}; size ${maxAddresses}\n\t}\n`,
    );
  }
  return sets;
}

function groupChains({ key, policy, addressSet }: AllowGroup): string {
  return (["to", "from"] as const)
    .map((direction) => {
      const [address, port] =
        direction === "to" ? ["ip daddr", "th dport"] : ["ip saddr", "th sport"];
      const ports =
        policy.ports.length === 0
          ? ""
          : ` meta l4proto { tcp, udp } ${port} { ${policy.ports.join(", ")} }`;
      const rules: string[] = [];
      if (policy.cidrs.length > 0) {
        rules.push(`${address} @cidrs_${key}${ports} accept comment "CIDRs of the list"`);
      }
      if (addressSet !== undefined) {
        // An address that is in use stays; the kernel does not refresh it when dnsmasq adds it again.
        rules.push(
          `${address} @${addressSet}${ports} update @${addressSet} { ${address} } accept comment "names of the list"`,
        );
      }
      rules.push('drop comment "not on the list"');
      return `\n\tchain ${direction}_${key} {\n${rules.map((rule) => `\t\t${rule}\n`).join("")}\t}\n`;
    })
    .join("");
}

function declaration({ kind, name, type, elements }: Elements): string {
  return `\t${kind} ${name} {\n\t\t${type}${listed(elements)}\n\t}`;
}

/** nft refuses an empty list. */
function listed(elements: readonly string[]): string {
  if (elements.length === 0) return "";
  return `\n\t\telements = {\n\t\t\t${elements.join(",\n\t\t\t")}\n\t\t}`;
}
