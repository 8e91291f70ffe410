import type { DesiredCounts, Pool } from "../domain/pool.ts";
import { type QuotaExcess, type Quotas, findExcess } from "../domain/quota.ts";

/** The quota that a pool at its desired counts would break beside the other pools at theirs, or undefined: what could never be brought about is refused at once. */
export function excessOfWanted(
  quotas: Quotas,
  others: readonly Pool[],
  pool: Pool,
): QuotaExcess | undefined {
  const used = { max_running: 0, max_warm: 0, max_vcpus: 0, max_mem_mib: 0, max_disk_gib: 0 };
  for (const other of others) {
    const wanted = wantedBy(other);
    used.max_running += wanted.max_running;
    used.max_warm += wanted.max_warm;
    used.max_vcpus += wanted.max_vcpus;
    used.max_mem_mib += wanted.max_mem_mib;
    used.max_disk_gib += wanted.max_disk_gib;
  }
  const max_instances_per_pool = allOf(pool.desired_counts);
  return findExcess(quotas, used, { ...wantedBy(pool), max_instances_per_pool });
}

function wantedBy({ desired_counts, instance_resources }: Pool): {
  readonly max_running: number;
  readonly max_warm: number;
  readonly max_vcpus: number;
  readonly max_mem_mib: number;
  readonly max_disk_gib: number;
} {
  const { running, warm } = desired_counts;
  return {
    max_running: running,
    max_warm: warm,
    max_vcpus: (running + warm) * instance_resources.vcpus,
    max_mem_mib: (running + warm) * instance_resources.mem_mib,
    max_disk_gib: (allOf(desired_counts) * instance_resources.data_disk_mib) / 1024,
  };
}

function allOf({ running, warm, sleeping }: DesiredCounts): number {
  return running + warm + sleeping;
}
