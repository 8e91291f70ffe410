import { type EgressMode, type EgressPolicy, egressModes, egressPolicy } from "../domain/egress.ts";
import { wholeNumber } from "./parameters.ts";

/** What the flags of a pool's egress policy give; the lists belong to `allow`. */
export interface EgressFlagValues {
  readonly egress?: EgressMode;
  readonly egressCidr?: readonly string[];
  readonly egressDomain?: readonly string[];
  readonly egressPort?: readonly number[];
}

interface ListFlag<T> {
  readonly kind: "parsed";
  readonly parse: (text: string) => T;
  readonly variadic: ",";
  readonly optional: true;
  readonly brief: string;
  readonly placeholder: string;
}

/** `--egress`, and the lists that belong to `--egress allow`. */
export const egressFlags: {
  readonly egress: {
    readonly kind: "enum";
    readonly values: readonly EgressMode[];
    readonly optional: true;
    readonly brief: string;
  };
  readonly egressCidr: ListFlag<string>;
  readonly egressDomain: ListFlag<string>;
  readonly egressPort: ListFlag<number>;
} = {
  egress: {
    kind: "enum",
    values: egressModes,
    optional: true,
    brief: "Where instances may go outside: open (default), none, or allow with a list",
  },
  egressCidr: list(String, "cidr", "With --egress allow: IPv4 networks, separated by commas"),
  egressDomain: list(String, "domain", "With --egress allow: names, each with all names below it"),
  egressPort: list(
    wholeNumber(1, 65_535),
    "port",
    "With --egress allow: TCP and UDP ports; all when left out",
  ),
};

/** The policy that the flags ask for, or undefined without any. @throws UsageError */
export function egressOf(flags: EgressFlagValues): EgressPolicy | undefined {
  const lists = [flags.egressCidr, flags.egressDomain, flags.egressPort];
  if (flags.egress === undefined && lists.every((entries) => entries === undefined)) {
    return undefined;
  }
  return egressPolicy({
    mode: flags.egress ?? "open",
    cidrs: flags.egressCidr ?? [],
    domains: flags.egressDomain ?? [],
    ports: flags.egressPort ?? [],
  });
}

function list<T>(parse: (text: string) => T, placeholder: string, brief: string): ListFlag<T> {
  return { kind: "parsed", parse, variadic: ",", optional: true, placeholder, brief };
}
