import { type Command, buildCommand } from "@stricli/core";
import { type TenantId, parseTenantId } from "../../../domain/ids.ts";
import type { CliContext } from "../../context.ts";
import { table } from "../../output.ts";
import { jsonFlag } from "../../parameters.ts";
import { noteCorrupt } from "../../render-corrupt.ts";

/** `mvm pool list` */
export const poolList: Command<CliContext> = buildCommand<
  { tenant?: TenantId; json: boolean },
  [],
  CliContext
>({
  docs: { brief: "List pools" },
  parameters: {
    flags: {
      tenant: { kind: "parsed", parse: parseTenantId, optional: true, brief: "Only this tenant's" },
      ...jsonFlag,
    },
  },
  async func({ tenant, json }) {
    const records = await this.records();
    const pools = await records.pools(tenant);
    noteCorrupt(this.out, await records.corrupt(tenant));
    if (json) {
      this.out.json(pools);
      return;
    }
    const rows = pools.map((pool) => [
      pool.address,
      pool.role,
      `${pool.instance_resources.vcpus}vcpu/${pool.instance_resources.mem_mib}MiB`,
      `${pool.desired_counts.running}/${pool.desired_counts.warm}/${pool.desired_counts.sleeping}`,
      String(pool.instances),
      pool.revisions[0]?.slice(0, 12) ?? "none",
    ]);
    this.out.data(
      table(["POOL", "ROLE", "RESOURCES", "RUN/WARM/SLEEP", "INSTANCES", "IMAGE"], rows),
    );
  },
});
