import * as z from "zod";
import { vmUid } from "../../domain/address-plan.ts";
import { ConflictError } from "../../domain/errors.ts";
import type { TenantNetworkState } from "../../ports/network.ts";

/** A link of this network namespace, as far as mvm cares. */
export interface Link {
  readonly name: string;
  /** The kernel's name of its kind, such as `bridge`, `tun` or `veth`; undefined for a real device. */
  readonly kind: string | undefined;
  readonly mac: string | undefined;
  readonly master: string | undefined;
  readonly up: boolean;
  /** IPv4 addresses with prefix length, and those of point-to-point peers. */
  readonly addresses: readonly string[];
  /** Who may use a TAP: one uid, and one program at a time if it is exclusive. */
  readonly tap?: TapAccess | undefined;
}

interface TapAccess {
  readonly user: number | undefined;
  readonly exclusive: boolean;
}

/** What to do with links, by the step it belongs to: names to remove, then lines for `ip -batch`. */
interface LinkPlan {
  readonly remove: readonly string[];
  readonly create: readonly string[];
  readonly configure: readonly string[];
}

const addressInfo = z.object({
  family: z.string(),
  local: z.string().optional(),
  address: z.string().optional(),
  prefixlen: z.number(),
});

const linkInfo = z.object({
  ifname: z.string(),
  address: z.string().optional(),
  master: z.string().optional(),
  flags: z.array(z.string()),
  linkinfo: z
    .object({ info_kind: z.string().optional(), info_data: z.unknown().optional() })
    .optional(),
  addr_info: z.array(addressInfo).default([]),
});

const tapInfo = z.object({
  type: z.literal("tap"),
  multi_queue: z.boolean(),
  // A number, unless the machine has a user of that number.
  user: z.union([z.number(), z.string()]).optional(),
  group: z.unknown().optional(),
});

const neighbour = z.object({ dst: z.string(), dev: z.string(), lladdr: z.string().optional() });

/** Reads the output of `ip -json -details address show`. @throws ZodError when it has another form. */
export function parseLinks(json: string): Link[] {
  return z
    .array(linkInfo)
    .parse(JSON.parse(json))
    .map((link) => ({
      name: link.ifname,
      kind: link.linkinfo?.info_kind,
      mac: link.address,
      master: link.master,
      up: link.flags.includes("UP"),
      addresses: link.addr_info.filter((info) => info.family === "inet").flatMap(cidrsOf),
      tap: link.linkinfo?.info_kind === "tun" ? tapAccess(link.linkinfo.info_data) : undefined,
    }));
}

function tapAccess(data: unknown): TapAccess {
  const { success, data: tap } = tapInfo.safeParse(data);
  if (!success) return { user: undefined, exclusive: false };
  const user = Number(tap.user ?? Number.NaN);
  return {
    user: Number.isSafeInteger(user) ? user : undefined,
    exclusive: !tap.multi_queue && tap.group === undefined,
  };
}

function cidrsOf(info: z.infer<typeof addressInfo>): string[] {
  if (info.local === undefined) return [];
  if (info.address === undefined) return [`${info.local}/${info.prefixlen}`];
  return [`${info.local}/32`, `${info.address}/${info.prefixlen}`];
}

/** Whether a name has the form of a tenant's bridge. */
export function isBridgeName(name: string): boolean {
  return /^br-tenant-(0|[1-9]\d{0,3})$/.test(name);
}

/** Whether a name has the form of a link of a builder's network. */
export function isBuilderLinkName(name: string): boolean {
  return /^mvm[bt]-[0-9a-f]{8}$/.test(name);
}

/** Whether a name has the form of an instance's TAP. */
export function isPortName(name: string): boolean {
  return /^tn(0|[1-9]\d{0,3})i[1-9]\d{0,2}$/.test(name);
}

/**
 * What to change so that this namespace has the bridges and ports of `tenants` and no others with
 * a name of mvm's form. `portKinds` are the kinds of link that count as a port. A TAP is made for the
 * uid of its VMM: one without a user could be opened by any program that may open /dev/net/tun.
 * @throws ConflictError when a wanted name is taken by a link of another kind.
 */
export function planLinks(
  observed: readonly Link[],
  tenants: readonly TenantNetworkState[],
  portKinds: readonly string[],
  vmUidBase: number,
): LinkPlan {
  const byName = new Map(observed.map((link) => [link.name, link]));
  const wanted = new Set<string>();
  const create: string[] = [];
  const configure: string[] = [];
  for (const { network, ports } of tenants) {
    const bridge = expectKind(byName.get(network.bridge), ["bridge"]);
    wanted.add(network.bridge);
    // An address of its own: a bridge without one changes it with its ports, and guests would lose their gateway.
    const mac = bridgeMac(network.netId);
    if (bridge === undefined) {
      create.push(`link add name ${network.bridge} address ${mac} type bridge mcast_snooping 0`);
    } else if (bridge.mac !== mac) {
      configure.push(`link set dev ${network.bridge} address ${mac}`);
    }
    const address = `${network.gatewayIp}/24`;
    if (bridge?.addresses.some((other) => other !== address) === true) {
      configure.push(
        `address flush dev ${network.bridge}`,
        `address add ${address} dev ${network.bridge}`,
      );
    } else if (bridge?.addresses.includes(address) !== true) {
      configure.push(`address add ${address} dev ${network.bridge}`);
    }
    if (bridge?.up !== true) configure.push(`link set dev ${network.bridge} up`);
    for (const port of ports) {
      const link = expectKind(byName.get(port.tap), portKinds);
      wanted.add(port.tap);
      if (link === undefined) {
        const uid = vmUid(vmUidBase, network.netId, port.offset);
        create.push(`tuntap add dev ${port.tap} mode tap user ${uid}`);
      }
      if (link !== undefined && link.addresses.length > 0) {
        configure.push(`address flush dev ${port.tap}`);
      }
      if (link?.master !== network.bridge) {
        configure.push(`link set dev ${port.tap} master ${network.bridge}`);
      }
      if (link?.up !== true) configure.push(`link set dev ${port.tap} up`);
    }
  }
  const stale = observed.filter((link) => !wanted.has(link.name) && isOurs(link, portKinds));
  return {
    remove: stale
      .map(({ name }) => name)
      .toSorted()
      .toReversed(),
    create,
    configure,
  };
}

/** Whether a link was made by mvm, by the form of its name and its kind. */
export function isOurs(link: Link, portKinds: readonly string[]): boolean {
  if (isBridgeName(link.name)) return link.kind === "bridge";
  return isPortName(link.name) && link.kind !== undefined && portKinds.includes(link.kind);
}

/** The networks the host itself is in, mvm's own left out; sorted CIDRs. */
export function hostNetworks(observed: readonly Link[]): string[] {
  const cidrs = observed
    .filter(({ name }) => !isBridgeName(name) && !isBuilderLinkName(name))
    .flatMap((link) => link.addresses)
    .filter((cidr) => !cidr.endsWith("/0"));
  return [...new Set(cidrs)].toSorted();
}

/**
 * Lines for `ip -batch` that forget neighbours on the tenants' bridges which are no port of theirs:
 * a released address may go to another instance, with another MAC. `json` is the output of
 * `ip -json neighbour show`. @throws ZodError when it has another form.
 */
export function planNeighbours(json: string, tenants: readonly TenantNetworkState[]): string[] {
  const bridges = new Set(tenants.map((tenant) => tenant.network.bridge));
  const known = new Set(
    tenants.flatMap(({ network, ports }) =>
      ports.map((port) => `${network.bridge} ${port.ip} ${port.mac}`),
    ),
  );
  return z
    .array(neighbour)
    .parse(json.trim() === "" ? [] : JSON.parse(json))
    .filter(({ dev, lladdr }) => bridges.has(dev) && lladdr !== undefined)
    .filter(({ dst, dev, lladdr }) => !known.has(`${dev} ${dst} ${lladdr}`))
    .map(({ dst, dev }) => `neighbour flush to ${dst} dev ${dev} nud all`);
}

/** The MAC of a tenant's bridge: that of offset 1, so that a guest that wakes finds its gateway again. */
export function bridgeMac(netId: number): string {
  const hex = (byte: number): string => byte.toString(16).padStart(2, "0");
  return `02:6d:76:${hex(netId >> 8)}:${hex(netId & 255)}:01`;
}

function expectKind(link: Link | undefined, kinds: readonly string[]): Link | undefined {
  if (link === undefined || (link.kind !== undefined && kinds.includes(link.kind))) return link;
  throw new ConflictError(
    `the network link ${link.name} exists and is of kind ${link.kind ?? "device"}, not ${kinds.join(" or ")}`,
    { hint: `rename or remove it: ip link show ${link.name}` },
  );
}
