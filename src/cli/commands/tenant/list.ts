import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";
import { age, table } from "../../output.ts";
import { jsonFlag } from "../../parameters.ts";
import { noteCorrupt } from "../../render-corrupt.ts";

/** `mvm tenant list` */
export const tenantList: Command<CliContext> = buildCommand<{ json: boolean }, [], CliContext>({
  docs: { brief: "List the tenants of this node" },
  parameters: { flags: jsonFlag },
  async func({ json }) {
    const { tenants, corrupt } = await (await this.records()).tenants();
    noteCorrupt(this.out, corrupt);
    if (json) {
      this.out.json(tenants);
      return;
    }
    const rows = tenants.map((tenant) => [
      tenant.tenant_id,
      tenant.subnet,
      String(tenant.pools.length),
      String(tenant.instances),
      String(tenant.used.max_running ?? 0),
      age(tenant.created_at, Date.now()),
    ]);
    this.out.data(table(["TENANT", "SUBNET", "POOLS", "INSTANCES", "RUNNING", "AGE"], rows));
  },
});
