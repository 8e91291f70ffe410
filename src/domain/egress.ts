import { UsageError } from "./errors.ts";

/**
 * Where the instances of a pool may go outside of their tenant's network. Metadata services, other
 * tenants and the host's own networks are closed under each of them.
 */
export type EgressPolicy =
  | { readonly mode: "open" }
  | { readonly mode: "none" }
  | {
      readonly mode: "allow";
      /** IPv4 networks, such as `192.0.2.0/24`. */
      readonly cidrs: readonly string[];
      /** Names whose addresses are allowed, each with all names below it. */
      readonly domains: readonly string[];
      /** TCP and UDP ports; none means every port and protocol. */
      readonly ports: readonly number[];
    };

export type EgressMode = EgressPolicy["mode"];
export const egressModes: readonly EgressMode[] = ["open", "none", "allow"];

export const openEgress: EgressPolicy = { mode: "open" };

/** The form in documents and records: lists only count for `allow`. */
export interface EgressFields {
  readonly mode: EgressMode;
  readonly cidrs: readonly string[];
  readonly domains: readonly string[];
  readonly ports: readonly number[];
}

/** Checks a policy and puts its lists in order. @throws UsageError with the first entry that is wrong. */
export function egressPolicy(fields: EgressFields): EgressPolicy {
  const { mode } = fields;
  const cidrs = [...new Set(fields.cidrs.map(parseCidr))].toSorted();
  const domains = [...new Set(fields.domains.map(parseDomain))].toSorted();
  const ports = [...new Set(fields.ports)].toSorted((left, right) => left - right);
  if (mode !== "allow") {
    if (cidrs.length + domains.length + ports.length > 0) {
      throw new UsageError(`egress ${mode} takes no CIDRs, domains or ports`, {
        hint: "they belong to egress allow",
      });
    }
    return { mode };
  }
  if (cidrs.length + domains.length === 0) {
    throw new UsageError("egress allow names neither a CIDR nor a domain", {
      hint: "for every destination on some ports give the CIDR 0.0.0.0/0, for none at all egress none",
    });
  }
  return { mode, cidrs, domains, ports };
}

/** The names an instance under a policy may ask for outside; undefined means all. */
export function resolvableDomains(policy: EgressPolicy): readonly string[] | undefined {
  switch (policy.mode) {
    case "open":
      return undefined;
    case "none":
      return [];
    case "allow":
      return policy.domains;
  }
}

/** One line for a person. */
export function formatEgress(policy: EgressPolicy): string {
  if (policy.mode !== "allow") return policy.mode;
  const places = [...policy.cidrs, ...policy.domains].join(", ");
  return policy.ports.length === 0
    ? `allow ${places}`
    : `allow ${places} on ports ${policy.ports.join(", ")}`;
}

function parseCidr(text: string): string {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(text);
  const [a = 256, b = 256, c = 256, d = 256, length = 33] = match?.slice(1).map(Number) ?? [];
  if ([a, b, c, d].some((byte) => byte > 255) || length > 32) {
    throw new UsageError(`${JSON.stringify(text)} is not an IPv4 network such as 192.0.2.0/24`);
  }
  const size = 2 ** (32 - length);
  const value = ((a * 256 + b) * 256 + c) * 256 + d;
  const base = value - (value % size);
  const network = [24, 16, 8, 0].map((shift) => Math.floor(base / 2 ** shift) % 256).join(".");
  if (value !== base) {
    throw new UsageError(`${text} is an address inside a network, not a network`, {
      hint: `write ${network}/${length}, or ${[a, b, c, d].join(".")}/32 for that one address`,
    });
  }
  return `${network}/${length}`;
}

function parseDomain(text: string): string {
  const name = text.toLowerCase();
  const label = "(?!-)[a-z0-9_-]{1,63}(?<!-)";
  // A single label would be a whole top-level domain; a name of numbers alone would be an address.
  const form = new RegExp(String.raw`^(?=.{1,253}$)(?!.*\.\d+$)${label}(\.${label})+$`);
  if (!form.test(name)) {
    throw new UsageError(`${JSON.stringify(text)} is not a domain such as example.com`, {
      hint: "a domain stands for itself and all names below it; wildcards are not needed",
    });
  }
  if (name.endsWith(".mvm")) {
    throw new UsageError(`${name} is below .mvm, which the tenant's own instances are in`, {
      hint: "they are always reached; leave it out",
    });
  }
  return name;
}
