import { createHash } from "node:crypto";
import { type EgressPolicy, resolvableDomains } from "../../domain/egress.ts";
import type { NetworkPort, TenantNetworkState } from "../../ports/network.ts";

/** One of a tenant's DNS servers: instances that may ask for the same names share it. */
export interface ResolverGroup {
  /** `<net id>` for the server that answers everything, `<net id>-<digest>` for one with a list. */
  readonly key: string;
  /** Where it listens at the tenant's `.1`. Guests ask port 53 and are led to theirs. */
  readonly port: number;
  /** The names it answers, with all below them; undefined means all. */
  readonly domains: readonly string[] | undefined;
  /** The nft set that it fills with the addresses of those names; none without names. */
  readonly addressSet: string | undefined;
}

/** The instances of a tenant that share one allow-list. */
export interface AllowGroup {
  /** Ends the names of the group's chains and sets. */
  readonly key: string;
  readonly policy: Extract<EgressPolicy, { mode: "allow" }>;
  readonly addressSet: string | undefined;
}

// Below the ports that dnsmasq asks from (`min-port`), so that a question never takes a server's.
const firstPort = 10_000;
const portCount = 20_000;
export const firstQueryPort: number = firstPort + portCount;

/** The port of the server that answers every name. */
export const dnsPort = 53;

/** A tenant's DNS servers: the one for all names first, then one for each list that a port needs. */
export function resolverGroups(tenant: TenantNetworkState): ResolverGroup[] {
  const { netId } = tenant.network;
  const lists = new Map<string, readonly string[]>();
  for (const { egress } of tenant.ports) {
    const domains = resolvableDomains(egress);
    if (domains !== undefined) lists.set(resolverKey(netId, domains), domains);
  }
  const taken = new Set<number>();
  const restricted = [...lists]
    .toSorted(([left], [right]) => (left < right ? -1 : 1))
    .map(([key, domains]) => {
      const port = freePort(key, taken);
      taken.add(port);
      return { key, port, domains, addressSet: addressSet(netId, domains) };
    });
  return [
    { key: `${netId}`, port: dnsPort, domains: undefined, addressSet: undefined },
    ...restricted,
  ];
}

/** The DNS server of a port's instance. */
export function resolverOf(
  groups: readonly ResolverGroup[],
  netId: number,
  port: NetworkPort,
): ResolverGroup {
  const key = resolverKey(netId, resolvableDomains(port.egress));
  const group = groups.find((candidate) => candidate.key === key);
  if (group === undefined) throw new Error(`no DNS server for ${port.owner}`);
  return group;
}

/** The different allow-lists of a tenant, in a fixed order. */
export function allowGroups(tenant: TenantNetworkState): AllowGroup[] {
  const groups = new Map<string, AllowGroup>();
  for (const { egress } of tenant.ports) {
    if (egress.mode !== "allow") continue;
    const key = allowKey(tenant.network.netId, egress);
    const set = addressSet(tenant.network.netId, egress.domains);
    groups.set(key, { key, policy: egress, addressSet: set });
  }
  return [...groups.values()].toSorted((left, right) => (left.key < right.key ? -1 : 1));
}

export function allowKey(netId: number, policy: EgressPolicy): string {
  return `${netId}_${digest(policy)}`;
}

function resolverKey(netId: number, domains: readonly string[] | undefined): string {
  return domains === undefined ? `${netId}` : `${netId}-${digest(domains)}`;
}

/** Named for the list: with another list the addresses start anew, and those of a name that left it are gone. */
function addressSet(netId: number, domains: readonly string[]): string | undefined {
  return domains.length === 0 ? undefined : `names_${netId}_${digest(domains)}`;
}

/** A port that stays the same while other lists come and go, unless two of a tenant's meet. */
function freePort(key: string, taken: ReadonlySet<number>): number {
  let index = Number.parseInt(digest(key).slice(0, 8), 16) % portCount;
  while (taken.has(firstPort + index)) index = (index + 1) % portCount;
  return firstPort + index;
}

function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 12);
}
