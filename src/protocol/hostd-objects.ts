import * as z from "zod/mini";
import type { EgressPolicy } from "../domain/egress.ts";
import { egressSchema } from "../domain/egress-schema.ts";
import {
  type InstanceAddress,
  type InstanceId,
  type PoolAddress,
  type TenantAddress,
  type TenantId,
  parseInstanceId,
  parsePoolId,
  parseTenantId,
} from "../domain/ids.ts";
import { UsageError } from "../domain/errors.ts";
import type { Machine } from "../domain/machine.ts";
import { type Role, parseRole } from "../domain/roles.ts";
import { secretName } from "../domain/secret-scopes.ts";

// The objects that hostd can name. No path is among them, and no user of the host.

/** A VMM by what makes it unique until the next boot; hostd looks for it among those that it finds itself. */
export interface VmmName {
  readonly id: InstanceId;
  readonly pid: number;
  readonly startTicks: number;
}

/** An instance's port on its tenant's bridge. Address, MAC and TAP follow from its tenant's net id and the offset. */
export interface PortNames {
  readonly offset: number;
  readonly owner: InstanceAddress;
  /** Whether it answers to the name of its pool, too. */
  readonly serves: boolean;
  readonly egress: EgressPolicy;
}

export interface TenantNames {
  readonly tenant: TenantId;
  readonly netId: number;
  readonly ports: readonly PortNames[];
}

/** One `secrets.json` of a secrets drive; who may read it in the guest follows from its integration. */
export interface SecretsNames {
  readonly integration: string | null;
  readonly values: Readonly<Record<string, string>>;
}

/** A text that a parser of the domain takes. */
function id<T extends string>(parse: (text: string) => T): z.ZodMiniType<T> {
  return z.pipe(
    z.string().check(z.maxLength(64)),
    z.transform((text, context) => {
      try {
        return parse(text);
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
        context.issues.push({ code: "custom", message: error.message, input: text });
        return z.NEVER;
      }
    }),
  );
}

export const tenantIdSchema: z.ZodMiniType<TenantId> = id(parseTenantId);
export const instanceIdSchema: z.ZodMiniType<InstanceId> = id(parseInstanceId);
export const roleSchema: z.ZodMiniType<Role> = id(parseRole);
const poolId = id(parsePoolId);

export const tenantAddressSchema: z.ZodMiniType<TenantAddress> = z.strictObject({
  tenant: tenantIdSchema,
});
export const poolAddressSchema: z.ZodMiniType<PoolAddress> = z.strictObject({
  tenant: tenantIdSchema,
  pool: poolId,
});
export const instanceAddressSchema: z.ZodMiniType<InstanceAddress> = z.strictObject({
  tenant: tenantIdSchema,
  pool: poolId,
  instance: instanceIdSchema,
});

export const netIdSchema: z.ZodMiniType<number> = z.int().check(z.gte(0), z.lte(4095));
const offset = z.int().check(z.gte(2), z.lte(254));
export const hashSchema: z.ZodMiniType<string> = z.string().check(z.regex(/^[0-9a-f]{64}$/));

export const vmmNameSchema: z.ZodMiniType<VmmName> = z.strictObject({
  id: instanceIdSchema,
  pid: z.int().check(z.gte(2)),
  startTicks: z.int().check(z.nonnegative()),
});

/** More than any host has; what a host bears is a matter of quotas. */
const maxVcpus = 1024;
const maxMemMib = 16 * 1024 * 1024;

export const machineSchema: z.ZodMiniType<Machine> = z.strictObject({
  instance: instanceAddressSchema,
  netId: netIdSchema,
  offset,
  vcpus: z.int().check(z.gte(1), z.lte(maxVcpus)),
  memMib: z.int().check(z.gte(1), z.lte(maxMemMib)),
  revision: hashSchema,
  hasConfig: z.boolean(),
  hasData: z.boolean(),
});

const portSchema: z.ZodMiniType<PortNames> = z.strictObject({
  offset,
  owner: instanceAddressSchema,
  serves: z.boolean(),
  egress: egressSchema,
});

export const tenantNamesSchema: z.ZodMiniType<TenantNames> = z.strictObject({
  tenant: tenantIdSchema,
  netId: netIdSchema,
  ports: z.array(portSchema).check(z.maxLength(253)),
});

export const secretsNamesSchema: z.ZodMiniType<SecretsNames> = z.strictObject({
  integration: z.nullable(z.string().check(z.regex(/^[a-z][a-z0-9-]{0,31}$/))),
  values: z.record(
    z.string().check(z.regex(secretName)),
    z.string().check(z.maxLength(256 * 1024)),
  ),
});
