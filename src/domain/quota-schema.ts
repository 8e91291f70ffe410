import * as z from "zod/mini";
import type { Quotas } from "./quota.ts";

// Apart from the quotas, so that the command line knows their names without loading schemas.

const amount = z.int().check(z.nonnegative());

export const quotasSchema: z.ZodMiniType<Quotas> = z.strictObject({
  max_vcpus: amount,
  max_mem_mib: amount,
  max_running: amount,
  max_warm: amount,
  max_pools: amount,
  max_instances_per_pool: amount,
  max_disk_gib: amount,
});
