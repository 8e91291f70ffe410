import { MvmError } from "./errors.ts";

/** What a tenant may use at most. Memory in MiB, disk in GiB. */
export interface Quotas {
  readonly max_vcpus: number;
  readonly max_mem_mib: number;
  readonly max_running: number;
  readonly max_warm: number;
  readonly max_pools: number;
  readonly max_instances_per_pool: number;
  readonly max_disk_gib: number;
}

export const defaultQuotas: Quotas = {
  max_vcpus: 32,
  max_mem_mib: 65_536,
  max_running: 16,
  max_warm: 8,
  max_pools: 10,
  max_instances_per_pool: 32,
  max_disk_gib: 500,
};

export type QuotaName = keyof Quotas;

/** One quota that would be broken: what it allows, what is used already, what was asked on top. */
export interface QuotaExcess {
  readonly quota: QuotaName;
  readonly limit: number;
  readonly used: number;
  readonly asked: number;
}

/** The first quota that `asked` on top of `used` would break, or undefined. */
export function findExcess(
  quotas: Quotas,
  used: Readonly<Partial<Record<QuotaName, number>>>,
  asked: Readonly<Partial<Record<QuotaName, number>>>,
): QuotaExcess | undefined {
  for (const quota of Object.keys(asked) as QuotaName[]) {
    const excess = {
      quota,
      limit: quotas[quota],
      used: used[quota] ?? 0,
      asked: asked[quota] ?? 0,
    };
    if (excess.asked > 0 && excess.used + excess.asked > excess.limit) return excess;
  }
  return undefined;
}

export function describeExcess(excess: QuotaExcess): string {
  return `quota ${excess.quota} allows ${excess.limit}: ${excess.used} used, ${excess.asked} asked`;
}

/** A request that a quota of the tenant refuses. */
export class QuotaError extends MvmError {
  constructor(tenantId: string, excess: QuotaExcess) {
    super("over_quota", `tenant ${tenantId}: ${describeExcess(excess)}`, {
      hint: `stop or destroy something of ${tenantId}, or ask for less`,
    });
  }
}
