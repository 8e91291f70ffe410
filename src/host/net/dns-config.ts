import type { TenantNetworkState } from "../../ports/network.ts";
import { UsageError } from "../../domain/errors.ts";
import { type ResolverGroup, dnsPort, firstQueryPort } from "./egress-groups.ts";

/** A guest asks again soon, which opens the addresses that a name has by then. */
const maxTtlSeconds = 60;

/** Where a DNS server has its files. */
export interface DnsPaths {
  readonly folder: string;
  readonly config: string;
  readonly hosts: string;
  readonly pid: string;
  /** What it was started with. */
  readonly record: string;
}

/** The files of a DNS server below `root`, by the key of its group. */
export function dnsPaths(root: string, key: string): DnsPaths {
  const folder = `${root}/${key}`;
  return {
    folder,
    config: `${folder}/dnsmasq.conf`,
    hosts: `${folder}/hosts`,
    pid: `${folder}/dnsmasq.pid`,
    record: `${folder}/server.json`,
  };
}

/** The key of the server whose folder has this name, and its net id; undefined when it is none. */
export function parseDnsKey(name: string): { key: string; netId: number } | undefined {
  const netId = /^(\d{1,4})(-[0-9a-f]{12})?$/.exec(name)?.[1];
  return netId === undefined ? undefined : { key: name, netId: Number(netId) };
}

/**
 * The configuration of one of a tenant's DNS servers, which listens at the tenant's `.1` alone.
 * Source: dnsmasq(8).
 *
 * The first answers names below `.mvm` from its hosts file only, and asks the host's own resolvers for
 * the rest; those may be loopback addresses, since it runs on the host. One with a list asks the first
 * for the names on it and answers no others. It keeps no answers, so that each of them puts its
 * addresses into the set again.
 */
export function renderDnsConfig(
  tenant: TenantNetworkState,
  group: ResolverGroup,
  paths: DnsPaths,
  resolvConf: string,
): string {
  return `# DNS of tenant ${tenant.tenantId}, written by mvm
user=dnsmasq
group=nogroup
pid-file=${paths.pid}
port=${group.port}
min-port=${firstQueryPort}
bind-interfaces
listen-address=${tenant.network.gatewayIp}
except-interface=lo
no-hosts
domain-needed
bogus-priv
dns-forward-max=150
${group.domains === undefined ? forAllNames(paths, resolvConf) : forListedNames(tenant, group)}`;
}

function forAllNames(paths: DnsPaths, resolvConf: string): string {
  return `addn-hosts=${paths.hosts}
local=/mvm/
resolv-file=${resolvConf}
cache-size=1000
`;
}

function forListedNames(tenant: TenantNetworkState, group: ResolverGroup): string {
  const names = ["mvm", ...(group.domains ?? [])];
  const { addressSet } = group;
  const sets =
    addressSet === undefined
      ? []
      : (group.domains ?? []).map((name) => `nftset=/${name}/4#inet#mvm#${addressSet}`);
  return [
    "no-resolv",
    ...names.map((name) => `server=/${name}/${tenant.network.gatewayIp}#${dnsPort}`),
    ...sets,
    "cache-size=0",
    `max-ttl=${maxTtlSeconds}`,
    "",
  ].join("\n");
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
