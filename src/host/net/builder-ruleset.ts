/** All that a builder's rules say, by the names it has on the host. */
export interface BuilderRules {
  readonly table: string;
  readonly bridge: string;
  readonly tap: string;
  /** The guest's one address. */
  readonly guestIp: string;
  readonly resolvers: readonly string[];
  /** The networks that the host itself is in, as CIDR. */
  readonly hostNetworks: readonly string[];
}

/** Where no builder may go: what is closed to tenants (see ruleset.ts) and the range of builders. */
const closedNetworks = [
  "0.0.0.0/8",
  "10.240.0.0/12",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "198.18.0.0/15",
  "224.0.0.0/3",
];

/**
 * The packet filter of one builder as an `nft -f` batch: a table of its own, so that neither a change of
 * the tenants' rules nor another build touches it, and it goes as a whole. A packet passes only what
 * all tables let pass. Source: nft(8).
 */
export function renderBuilderRules(rules: BuilderRules): string {
  const closed = [...new Set([...closedNetworks, ...rules.hostNetworks])].toSorted();
  return `table inet ${rules.table}
delete table inet ${rules.table}
table inet ${rules.table} {
	set closed {
		type ipv4_addr; flags interval; auto-merge
		elements = { ${closed.join(", ")} }
	}
	set resolvers {
		type ipv4_addr
		elements = { ${rules.resolvers.toSorted().join(", ")} }
	}

	# A frame to a link-local group address leaves the bridge as traffic of the port itself.
	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		iifname "${rules.tap}" drop
		iifname "${rules.bridge}" jump sender
	}

	chain sender {
		meta nfproto != ipv4 drop
		ip saddr != ${rules.guestIp} drop
	}

	# No service of the host, not even an answer to a ping.
	chain input {
		type filter hook input priority filter; policy accept;
		iifname "${rules.bridge}" drop
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "${rules.bridge}" goto from_builder
		oifname "${rules.bridge}" goto to_builder
	}

	chain from_builder {
		oifname "br-tenant-*" drop
		oifname "mvmb-*" drop
		ct state invalid drop
		ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept
		ip daddr @closed drop
		accept
	}

	chain to_builder {
		ct state established,related ct direction reply accept
		drop
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr ${rules.guestIp} oifname != "${rules.bridge}" masquerade
	}
}
`;
}
