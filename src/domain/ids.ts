import { UsageError } from "./errors.ts";

export type TenantId = string & { readonly __brand: "TenantId" };
export type PoolId = string & { readonly __brand: "PoolId" };
/** `i-` and eight hex digits; unique on the node. */
export type InstanceId = string & { readonly __brand: "InstanceId" };

const NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const INSTANCE = /^i-[0-9a-f]{8}$/;

export interface TenantAddress {
  readonly tenant: TenantId;
}
export interface PoolAddress extends TenantAddress {
  readonly pool: PoolId;
}
export interface InstanceAddress extends PoolAddress {
  readonly instance: InstanceId;
}

/** @throws UsageError when the text is no tenant id. */
export function parseTenantId(text: string): TenantId {
  if (!NAME.test(text)) throw badName("tenant", text);
  return text as TenantId;
}

/** @throws UsageError when the text is no pool id. */
export function parsePoolId(text: string): PoolId {
  if (!NAME.test(text)) throw badName("pool", text);
  return text as PoolId;
}

/** @throws UsageError when the text is no instance id. */
export function parseInstanceId(text: string): InstanceId {
  if (!INSTANCE.test(text)) {
    throw new UsageError(`"${text}" is not an instance id`, {
      hint: "an instance id is i- and eight hex digits, as `mvm instance list` shows it",
    });
  }
  return text as InstanceId;
}

/** Whether a text has the form of an instance id; such a text is the id of a tenant, too. */
export function isInstanceId(text: string): boolean {
  return INSTANCE.test(text);
}

/** Parses `tenant/pool`. @throws UsageError */
export function parsePoolAddress(text: string): PoolAddress {
  const parts = text.split("/");
  const [tenant, pool] = parts;
  if (parts.length !== 2 || tenant === undefined || pool === undefined) {
    throw new UsageError(`"${text}" is not a pool address`, { hint: "write it as tenant/pool" });
  }
  return { tenant: parseTenantId(tenant), pool: parsePoolId(pool) };
}

/** Parses `tenant/pool/i-xxxxxxxx`. @throws UsageError */
export function parseInstanceAddress(text: string): InstanceAddress {
  const parts = text.split("/");
  const [tenant, pool, instance] = parts;
  if (parts.length !== 3 || tenant === undefined || pool === undefined || instance === undefined) {
    throw new UsageError(`"${text}" is not an instance address`, {
      hint: "write it as tenant/pool/i-xxxxxxxx, as `mvm instance list` shows it",
    });
  }
  return {
    tenant: parseTenantId(tenant),
    pool: parsePoolId(pool),
    instance: parseInstanceId(instance),
  };
}

export function formatPool(address: PoolAddress): string {
  return `${address.tenant}/${address.pool}`;
}

export function formatInstance(address: InstanceAddress): string {
  return `${address.tenant}/${address.pool}/${address.instance}`;
}

function badName(kind: string, text: string): UsageError {
  return new UsageError(`"${text}" is not a ${kind} id`, {
    hint: "use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends",
  });
}
