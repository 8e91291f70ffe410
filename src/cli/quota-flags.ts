import { type Quotas, defaultQuotas } from "../domain/quota.ts";
import { wholeNumber } from "./parameters.ts";

/** What the flags of a tenant's quotas give. */
export interface QuotaFlagValues {
  readonly maxVcpus?: number;
  readonly maxMemMib?: number;
  readonly maxRunning?: number;
  readonly maxWarm?: number;
  readonly maxPools?: number;
  readonly maxInstancesPerPool?: number;
  readonly maxDiskGib?: number;
}

interface QuotaFlag {
  readonly kind: "parsed";
  readonly parse: (text: string) => number;
  readonly optional: true;
  readonly brief: string;
}

/** One flag a quota. */
export const quotaFlags: { readonly [Name in keyof Required<QuotaFlagValues>]: QuotaFlag } = {
  maxVcpus: quota("vCPUs of all running and warm instances", defaultQuotas.max_vcpus),
  maxMemMib: quota("their memory in MiB", defaultQuotas.max_mem_mib),
  maxRunning: quota("running instances", defaultQuotas.max_running),
  maxWarm: quota("warm instances", defaultQuotas.max_warm),
  maxPools: quota("pools", defaultQuotas.max_pools),
  maxInstancesPerPool: quota("instances a pool", defaultQuotas.max_instances_per_pool),
  maxDiskGib: quota("data disks in GiB", defaultQuotas.max_disk_gib),
};

/** The quotas that were given. */
export function quotasOf(flags: QuotaFlagValues): Partial<Quotas> {
  const quotas = {
    max_vcpus: flags.maxVcpus,
    max_mem_mib: flags.maxMemMib,
    max_running: flags.maxRunning,
    max_warm: flags.maxWarm,
    max_pools: flags.maxPools,
    max_instances_per_pool: flags.maxInstancesPerPool,
    max_disk_gib: flags.maxDiskGib,
  };
  const given = Object.entries(quotas).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given) as Partial<Quotas>;
}

function quota(what: string, usual: number): QuotaFlag {
  const brief = `Quota: ${what} (${usual})`;
  return { kind: "parsed", parse: wholeNumber(0, 1_000_000_000), optional: true, brief };
}
