import type { TenantNetworkState } from "../../ports/network.ts";

interface RulesetOptions {
  /** First uid of the VMMs. */
  readonly vmUidBase: number;
  /** The networks that the host itself is in, as CIDR: guests do not reach them. */
  readonly hostNetworks: readonly string[];
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

/**
 * The packet filter of all tenants as one `nft -f` batch: both tables are replaced whole, and other
 * tables are not named. Without tenants it only removes them. Equal arguments give equal text.
 *
 * Its size grows with tenants and ports only in sets, which the kernel looks up by hash; the rules
 * are a fixed number. Source: nft(8).
 */
export function renderRuleset(
  tenants: readonly TenantNetworkState[],
  options: RulesetOptions,
): string {
  // `table` makes it where it is missing, so that `delete` cannot fail: nft 1.0.6 has `destroy`, older kernels have not.
  const removal = ["inet", "bridge"].map(
    (family) => `table ${family} mvm\ndelete table ${family} mvm\n`,
  );
  if (tenants.length === 0) return removal.join("");
  return [...removal, inetTable(tenants, options), bridgeTable(tenants)].join("");
}

function inetTable(tenants: readonly TenantNetworkState[], options: RulesetOptions): string {
  const networks = tenants.map((tenant) => tenant.network);
  const lastUid = options.vmUidBase + vmUidCount - 1;
  return `table inet mvm {
${set("bridges", "type ifname", networks, (network) => `"${network.bridge}"`)}
${set("within_tenant", "type ifname . ifname", networks, (network) => `"${network.bridge}" . "${network.bridge}"`)}
${set("own_gateway", "type ifname . ipv4_addr", networks, (network) => `"${network.bridge}" . ${network.gatewayIp}`)}
${set("gateways", "type ipv4_addr", networks, (network) => network.gatewayIp)}
${set("subnets", "type ipv4_addr; flags interval", networks, (network) => network.subnet)}
${set("closed", "type ipv4_addr; flags interval; auto-merge", [...closedNetworks, ...options.hostNetworks], (cidr) => cidr)}
${portNames(tenants)}

	# A frame to a link-local group address (01:80:c2:...) leaves the bridge as traffic of the port
	# itself and passes none of the bridge's rules.
	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		iifname @ports drop
	}

	chain input {
		type filter hook input priority filter; policy accept;
		iifname @bridges goto guest_to_host
		iifname "lo" accept
		# The gateway address is on a bridge, but Linux answers for it on every link.
		ip daddr @gateways ct direction original drop
	}

	chain guest_to_host {
		ct state established,related ct direction reply accept
		iifname . ip daddr @own_gateway meta l4proto { tcp, udp } th dport 53 accept
		iifname . ip daddr @own_gateway icmp type echo-request accept
		drop
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname @bridges goto from_guest
		oifname @bridges goto to_guest
	}

	chain from_guest {
		# Frames between two ports come here too where br_netfilter is loaded.
		iifname . oifname @within_tenant accept
		oifname @bridges drop
		meta nfproto != ipv4 drop
		# What connection tracking does not know is not masqueraded and would show the guest's address.
		ct state invalid drop
		ip daddr @closed drop
		accept
	}

	chain to_guest {
		ct state established,related ct direction reply accept
		drop
	}

	chain output {
		type filter hook output priority filter; policy accept;
		meta skuid ${options.vmUidBase}-${lastUid} drop
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "lo" accept
		oifname @bridges accept
		ip saddr @subnets masquerade
	}
}
`;
}

function bridgeTable(tenants: readonly TenantNetworkState[]): string {
  const ports = tenants.flatMap((tenant) => tenant.ports);
  return `table bridge mvm {
${portNames(tenants)}
${set("identities", "type ifname . ether_addr . ipv4_addr", ports, (port) => `"${port.tap}" . ${port.mac} . ${port.ip}`)}

	chain prerouting {
		type filter hook prerouting priority dstnat; policy accept;
		iifname @ports goto from_port
	}

	# \`ether type\` reads the frame itself, so a VLAN tag is none of the two.
	chain from_port {
		ether type ip iifname . ether saddr . ip saddr @identities accept
		ether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp operation { request, reply } iifname . ether saddr . arp saddr ip @identities iifname . arp saddr ether . arp saddr ip @identities accept
		drop
	}
}
`;
}

function portNames(tenants: readonly TenantNetworkState[]): string {
  const ports = tenants.flatMap((tenant) => tenant.ports);
  return set("ports", "type ifname", ports, (port) => `"${port.tap}"`);
}

function set<Item>(
  name: string,
  type: string,
  items: readonly Item[],
  element: (item: Item) => string,
): string {
  // Sorted, so that the order in which state was read does not show. nft refuses an empty list.
  const elements = [...new Set(items.map(element))].toSorted();
  const line =
    elements.length === 0 ? "" : `\n\t\telements = {\n\t\t\t${elements.join(",\n\t\t\t")}\n\t\t}`;
  return `\tset ${name} {\n\t\t${type}${line}\n\t}`;
}
