import { type AuditLogName, nodeLog } from "../domain/audit.ts";
import { proposeInstances, proposeObjects, proposePools, proposeTenants } from "./completion.ts";
import { maxNetId } from "../domain/address-plan.ts";
import { UsageError } from "../domain/errors.ts";
import {
  type InstanceAddress,
  isInstanceId,
  parseInstanceAddress,
  parseInstanceId,
  parsePoolAddress,
  type PoolAddress,
  type TenantAddress,
  type TenantId,
  parseTenantId,
} from "../domain/ids.ts";
import { parseOverride } from "../domain/management.ts";
import type { NodeQueries } from "../node/queries.ts";

export const jsonFlag = {
  json: { kind: "boolean", default: false, brief: "Print JSON instead of text" },
} as const;

export const yesFlag = {
  yes: { kind: "boolean", default: false, brief: "Do not ask" },
} as const;

export const wipeFlag = {
  wipeVolumes: { kind: "boolean", default: false, brief: "Remove the data disks too" },
} as const;

export const dryRunFlag = {
  dryRun: { kind: "boolean", default: false, brief: "Only say what would change" },
} as const;

/** For commands on what a document may manage. */
export const overrideFlag: { readonly override: OptionalFlag<number> } = {
  override: {
    kind: "parsed",
    parse: parseOverride,
    optional: true,
    brief: "Change what a document manages, and keep the document off it for so long (10m)",
  },
};

/** A command with one positional argument. */
interface OneArgument<T> {
  readonly kind: "tuple";
  readonly parameters: readonly [
    {
      readonly brief: string;
      readonly parse: (text: string) => T;
      readonly placeholder: string;
      readonly proposeCompletions: typeof proposeTenants;
    },
  ];
}

export const tenantArgument: OneArgument<TenantId> = {
  kind: "tuple",
  parameters: [
    {
      brief: "Tenant id",
      parse: parseTenantId,
      placeholder: "tenant",
      proposeCompletions: proposeTenants,
    },
  ],
};

/** A tenant's audit log, or that of the node. */
export const auditLogArgument: OneArgument<AuditLogName> = {
  kind: "tuple",
  parameters: [
    {
      brief: "Tenant id, or @node for the node itself",
      parse: (text) => (text === nodeLog ? nodeLog : parseTenantId(text)),
      placeholder: "tenant",
      proposeCompletions: proposeTenants,
    },
  ],
};

export const poolArgument: OneArgument<PoolAddress> = {
  kind: "tuple",
  parameters: [
    {
      brief: "Pool address",
      parse: parsePoolAddress,
      placeholder: "tenant/pool",
      proposeCompletions: proposePools,
    },
  ],
};

/** An instance is named by its whole address or by its id alone. */
export type InstanceName = InstanceAddress | { readonly id: InstanceAddress["instance"] };

export function parseInstanceName(text: string): InstanceName {
  return text.includes("/") ? parseInstanceAddress(text) : { id: parseInstanceId(text) };
}

export const instanceArgument: OneArgument<InstanceName> = {
  kind: "tuple",
  parameters: [
    {
      brief: "Instance address, or its id alone",
      parse: parseInstanceName,
      placeholder: "instance",
      proposeCompletions: proposeInstances,
    },
  ],
};

/** A tenant, a pool, or an instance, also by its id alone. */
export type ObjectName = TenantAddress | PoolAddress | InstanceName;

function parseObjectName(text: string): ObjectName {
  const depth = text.split("/").length;
  if (depth === 2) return parsePoolAddress(text);
  if (depth === 3 || isInstanceId(text)) return parseInstanceName(text);
  return { tenant: parseTenantId(text) };
}

export const objectArgument: OneArgument<ObjectName> = {
  kind: "tuple",
  parameters: [
    {
      brief: "Address of a tenant, pool or instance",
      parse: parseObjectName,
      placeholder: "address",
      proposeCompletions: proposeObjects,
    },
  ],
};

/** The whole address of an instance. @throws NotFoundError */
export async function resolveInstance(
  node: NodeQueries,
  name: InstanceName,
): Promise<InstanceAddress> {
  return "id" in name ? node.locate(name.id) : name;
}

/** A whole number within bounds, for a flag. */
export function wholeNumber(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < minimum || value > maximum) {
      throw new UsageError(`"${text}" is not a whole number from ${minimum} to ${maximum}`);
    }
    return value;
  };
}

export const replaceKeyFlag = {
  force: { kind: "boolean", default: false, brief: "Replace a key that is there" },
} as const;

/** The flag that names a file with something secret, which is never given as an argument. */
export function fromFileFlag(brief: string): {
  readonly fromFile: {
    readonly kind: "parsed";
    readonly parse: (text: string) => string;
    readonly brief: string;
    readonly placeholder: string;
  };
} {
  return { fromFile: { kind: "parsed", parse: String, brief, placeholder: "file" } };
}

interface OptionalFlag<T> {
  readonly kind: "parsed";
  readonly parse: (text: string) => T;
  readonly optional: true;
  readonly brief: string;
}

/** The network a new tenant asks for. */
export const networkFlags: {
  readonly netId: OptionalFlag<number>;
  readonly subnet: OptionalFlag<string>;
} = {
  netId: {
    kind: "parsed",
    parse: wholeNumber(0, maxNetId),
    optional: true,
    brief: "Net id; allocated when left out",
  },
  subnet: {
    kind: "parsed",
    parse: String,
    optional: true,
    brief: "The /24 of the net id; follows from it when left out",
  },
};

/** A flag for a whole number within bounds that may be left out. */
export function optionalNumber(
  minimum: number,
  maximum: number,
  brief: string,
): OptionalFlag<number> {
  return { kind: "parsed", parse: wholeNumber(minimum, maximum), optional: true, brief };
}

/** A flag for a text that may be left out. */
export function optionalText(
  brief: string,
  placeholder: string,
): OptionalFlag<string> & { readonly placeholder: string } {
  return { kind: "parsed", parse: String, optional: true, brief, placeholder };
}
