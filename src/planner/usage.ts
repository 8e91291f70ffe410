import { type Instance, resourcesOf, statusOf } from "../domain/instance.ts";
import { instanceAddresses } from "../domain/address-plan.ts";
import type { Pool } from "../domain/pool.ts";
import { type QuotaExcess, type QuotaName, type Quotas, findExcess } from "../domain/quota.ts";
import type { Tenant } from "../domain/tenant.ts";

/** A tenant's records, as far as they cost something. */
export interface UsageRecords {
  readonly tenant: Tenant;
  readonly pools: readonly Pool[];
  readonly instances: readonly Instance[];
}

export type Amounts = Partial<Record<QuotaName, number>>;

/** Counts what a tenant uses while a plan grows, and refuses what a quota does not allow. */
export class Usage {
  readonly #quotas: Quotas;
  readonly #used: Amounts;
  readonly #instancesOfPool = new Map<string, number>();

  constructor(records: UsageRecords) {
    this.#quotas = records.tenant.quotas;
    this.#used = usedBy(records);
    for (const record of records.instances) {
      const count = this.#instancesOfPool.get(record.pool_id) ?? 0;
      this.#instancesOfPool.set(record.pool_id, count + 1);
    }
  }

  /** Whether the tenant's subnet has an address for one more instance. */
  hasAddress(): boolean {
    return [...this.#instancesOfPool.values()].reduce((sum, n) => sum + n, 0) < instanceAddresses;
  }

  /** Takes what one more instance of a pool costs, and what its start will: one that could not start is not made. @returns the quota that forbids it. */
  takeCreate(pool: Pool, spare: boolean): QuotaExcess | undefined {
    const count = this.#instancesOfPool.get(pool.pool_id) ?? 0;
    const asked: Amounts = {
      max_instances_per_pool: 1,
      max_disk_gib: pool.instance_resources.data_disk_mib / 1024,
      ...costOfStart(pool, spare),
    };
    const excess = this.#take(asked, { ...this.#used, max_instances_per_pool: count });
    if (excess === undefined) this.#instancesOfPool.set(pool.pool_id, count + 1);
    return excess;
  }

  /** Takes what a VMM of a pool costs, counted as running or as a warm spare. */
  takeStart(pool: Pool, spare: boolean): QuotaExcess | undefined {
    return this.#take(costOfStart(pool, spare), this.#used);
  }

  /** Takes the change of a warm instance to a running one. */
  takeResume(): QuotaExcess | undefined {
    const excess = this.#take({ max_running: 1 }, this.#used);
    if (excess === undefined) this.#used.max_warm = (this.#used.max_warm ?? 1) - 1;
    return excess;
  }

  /** Takes the change of a running instance to a warm one. */
  takeWarm(): QuotaExcess | undefined {
    const excess = this.#take({ max_warm: 1 }, this.#used);
    if (excess === undefined) this.#used.max_running = (this.#used.max_running ?? 1) - 1;
    return excess;
  }

  #take(asked: Amounts, used: Amounts): QuotaExcess | undefined {
    const excess = findExcess(this.#quotas, used, asked);
    if (excess !== undefined) return excess;
    for (const [quota, amount] of Object.entries(asked) as [QuotaName, number][]) {
      this.#used[quota] = (this.#used[quota] ?? 0) + amount;
    }
    return undefined;
  }
}

function costOfStart(pool: Pool, spare: boolean): Amounts {
  const { vcpus, mem_mib } = pool.instance_resources;
  const place: Amounts = spare ? { max_warm: 1 } : { max_running: 1 };
  return { max_vcpus: vcpus, max_mem_mib: mem_mib, ...place };
}

/** What a tenant uses now, for every quota but the per-pool one. */
export function usedBy(records: UsageRecords): Amounts {
  const pools = new Map(records.pools.map((pool) => [pool.pool_id, pool]));
  const used = { max_vcpus: 0, max_mem_mib: 0, max_running: 0, max_warm: 0, max_disk_gib: 0 };
  for (const record of records.instances) {
    const pool = pools.get(record.pool_id);
    if (pool === undefined) continue;
    const resources = resourcesOf(record, pool);
    used.max_disk_gib += resources.data_disk_mib / 1024;
    const place = placeOf(record);
    if (place === undefined) continue;
    used.max_vcpus += resources.vcpus;
    used.max_mem_mib += resources.mem_mib;
    used[place] += 1;
  }
  return { ...used, max_pools: records.pools.length };
}

/** The quota that an instance with a VMM counts against: that of what it is becoming, since an interrupted operation is finished by whoever finds it. */
function placeOf(record: Instance): "max_running" | "max_warm" | undefined {
  switch (record.operation?.kind) {
    // A spare that still runs is on its way to be warm and was counted as such when it was started.
    case "start":
      return record.spare ? "max_warm" : "max_running";
    case "resume":
      return "max_running";
    case "warm":
      return "max_warm";
    case "stop":
    case "destroy":
    case undefined:
      break;
  }
  const status = statusOf(record);
  if (status === "warm") return "max_warm";
  if (status !== "running") return undefined;
  return record.spare ? "max_warm" : "max_running";
}
