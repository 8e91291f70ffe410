import { type Command, buildCommand } from "@stricli/core";
import type { TenantId } from "../../../domain/ids.ts";
import type { QuotaName } from "../../../domain/quota.ts";
import type { CliContext } from "../../context.ts";
import { table } from "../../output.ts";
import { managedBy } from "../../render-managed.ts";
import { jsonFlag, tenantArgument } from "../../parameters.ts";

/** `mvm tenant info` */
export const tenantInfo: Command<CliContext> = buildCommand<
  { json: boolean },
  [TenantId],
  CliContext
>({
  docs: { brief: "Show a tenant: network, quotas and their use, pools" },
  parameters: { positional: tenantArgument, flags: jsonFlag },
  async func({ json }, id) {
    const tenant = await (await this.records()).tenant(id);
    if (json) {
      this.out.json(tenant);
      return;
    }
    const quotas = Object.entries(tenant.quotas).map(([name, limit]) => [
      `  ${name}`,
      name === "max_instances_per_pool" ? "-" : String(tenant.used[name as QuotaName] ?? 0),
      String(limit),
    ]);
    this.out.data(
      [
        `Tenant:   ${tenant.tenant_id}${tenant.destroying ? " (being destroyed)" : ""}`,
        `Managed:  ${managedBy(tenant)}${tenant.pinned ? "; pinned" : ""}`,
        `Network:  net id ${tenant.net_id}, ${tenant.subnet}, bridge ${tenant.bridge}`,
        `Pools:    ${tenant.pools.join(", ") || "none"}`,
        "",
        table(["  QUOTA", "USED", "LIMIT"], quotas),
      ].join("\n"),
    );
  },
});
