import { ConflictError, UsageError } from "./errors.ts";

/** The cluster range 10.240.0.0/12 holds one /24 for each tenant net id. */
export const maxNetId = 4095;
const clusterBase = 0x0af00000;
const firstOffset = 2;
const lastOffset = 254;
/** How many instances a tenant's /24 has addresses for. */
export const instanceAddresses: number = lastOffset - firstOffset + 1;

/** Everything about a tenant's network that follows from its net id; addresses are dotted quads. */
export interface TenantNetwork {
  readonly netId: number;
  /** CIDR, such as `10.240.1.0/24`. */
  readonly subnet: string;
  /** The host's own address on the bridge, `.1`. */
  readonly gatewayIp: string;
  readonly bridge: string;
}

/** What an instance has on its tenant's network; `offset` is the last number of its address. */
export interface InstanceNetwork {
  readonly offset: number;
  readonly ip: string;
  readonly mac: string;
  readonly tap: string;
}

/** Derives the network of a net id (0..4095). @throws UsageError when it lies outside. */
export function tenantNetwork(netId: number): TenantNetwork {
  if (!Number.isInteger(netId) || netId < 0 || netId > maxNetId) {
    throw new UsageError(`net id ${netId} is not between 0 and ${maxNetId}`);
  }
  const base = clusterBase + netId * 256;
  return {
    netId,
    subnet: `${formatIpv4(base)}/24`,
    gatewayIp: formatIpv4(base + 1),
    bridge: `br-tenant-${netId}`,
  };
}

/** Derives address, MAC and TAP of the instance at an offset (2..254) of a tenant's subnet. */
export function instanceNetwork(netId: number, offset: number): InstanceNetwork {
  if (!Number.isInteger(offset) || offset < firstOffset || offset > lastOffset) {
    throw new UsageError(
      `address offset ${offset} is not between ${firstOffset} and ${lastOffset}`,
    );
  }
  const hex = (byte: number): string => byte.toString(16).padStart(2, "0");
  return {
    offset,
    ip: formatIpv4(clusterBase + netId * 256 + offset),
    mac: `02:6d:76:${hex(netId >> 8)}:${hex(netId & 255)}:${hex(offset)}`,
    tap: `tn${netId}i${offset}`,
  };
}

/** The uid that the VMM of the instance at an offset runs as; `base` is the first of the node's range. */
export function vmUid(base: number, netId: number, offset: number): number {
  return base + netId * 256 + offset;
}

/** The net id whose /24 is this CIDR. @throws UsageError when it is no /24 of the cluster range. */
export function netIdOfSubnet(cidr: string): number {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.0\/24$/.exec(cidr);
  const bytes = match?.slice(1).map(Number) ?? [];
  const [a, b, c] = bytes;
  if (a === undefined || b === undefined || c === undefined || bytes.some((byte) => byte > 255)) {
    throw outsideRange(cidr);
  }
  const netId = a * 65536 + b * 256 + c - (clusterBase >>> 8);
  if (netId < 0 || netId > maxNetId) throw outsideRange(cidr);
  return netId;
}

/**
 * The net id a new local tenant gets: the lowest that was never used on this node, else the lowest
 * that is free again. @throws ConflictError when all are in use.
 */
export function allocateNetId(everUsed: ReadonlySet<number>, inUse: ReadonlySet<number>): number {
  // Net id 0 is left for documents that ask for it: people expect the first tenant at 10.240.1.0.
  for (const taken of [everUsed, inUse]) {
    for (let netId = 1; netId <= maxNetId; netId += 1) {
      if (!taken.has(netId) && !inUse.has(netId)) return netId;
    }
  }
  throw new ConflictError("no tenant network is left on this node: all 4095 net ids are in use", {
    hint: "destroy a tenant that is no longer needed",
  });
}

/** The lowest free offset, or undefined when the /24 is full. */
export function allocateOffset(inUse: ReadonlySet<number>): number | undefined {
  for (let offset = firstOffset; offset <= lastOffset; offset += 1) {
    if (!inUse.has(offset)) return offset;
  }
  return undefined;
}

function formatIpv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join(".");
}

function outsideRange(cidr: string): UsageError {
  return new UsageError(`subnet ${cidr} is not a /24 inside 10.240.0.0/12`, {
    hint: "leave --subnet out, or give the one that belongs to the net id: net id 1 is 10.240.1.0/24",
  });
}
