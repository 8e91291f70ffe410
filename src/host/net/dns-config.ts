import type { TenantNetworkState } from "../../ports/network.ts";
import { UsageError } from "../../domain/errors.ts";

/** Where one tenant's DNS server has its files. */
export interface DnsPaths {
  readonly folder: string;
  readonly config: string;
  readonly hosts: string;
  readonly pid: string;
  /** What it was started with. */
  readonly record: string;
}

/** The files of the DNS server of a net id below `root`. */
export function dnsPaths(root: string, netId: number): DnsPaths {
  const folder = `${root}/${netId}`;
  return {
    folder,
    config: `${folder}/dnsmasq.conf`,
    hosts: `${folder}/hosts`,
    pid: `${folder}/dnsmasq.pid`,
    record: `${folder}/server.json`,
  };
}

/**
 * The configuration of one tenant's dnsmasq: it listens at the tenant's `.1` alone, answers names
 * below `.mvm` from its hosts file only, and asks the host's own resolvers for the rest; those may
 * be loopback addresses, since it runs on the host. Source: dnsmasq(8).
 */
export function renderDnsConfig(
  tenant: TenantNetworkState,
  paths: DnsPaths,
  resolvConf: string,
): string {
  return `# DNS of tenant ${tenant.tenantId}, written by mvm
user=dnsmasq
group=nogroup
pid-file=${paths.pid}
port=53
bind-interfaces
listen-address=${tenant.network.gatewayIp}
except-interface=lo
no-hosts
addn-hosts=${paths.hosts}
local=/mvm/
resolv-file=${resolvConf}
domain-needed
bogus-priv
cache-size=1000
dns-forward-max=150
`;
}

/** The names of a tenant's instances as a hosts file, in the order of addresses. @throws UsageError for what is no name. */
export function renderHosts(tenant: TenantNetworkState): string {
  return tenant.ports
    .toSorted((left, right) => left.offset - right.offset)
    .flatMap((port) => port.names.map((name) => `${port.ip} ${checkName(name)}\n`))
    .join("");
}

function checkName(name: string): string {
  if (/^(?=.{1,253}$)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*$/.test(name)) return name;
  throw new UsageError(`${JSON.stringify(name)} is not a DNS name`);
}
