import { type Command, buildCommand } from "@stricli/core";
import type { TenantId } from "../../../domain/ids.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag, networkFlags, tenantArgument } from "../../parameters.ts";
import { type QuotaFlagValues, quotaFlags, quotasOf } from "../../quota-flags.ts";

interface Flags extends QuotaFlagValues {
  readonly netId?: number;
  readonly subnet?: string;
  readonly json: boolean;
}

/** `mvm tenant create` */
export const tenantCreate: Command<CliContext> = buildCommand<Flags, [TenantId], CliContext>({
  docs: { brief: "Make a tenant with a network of its own" },
  parameters: {
    positional: tenantArgument,
    flags: { ...networkFlags, ...quotaFlags, ...jsonFlag },
  },
  async func({ netId, subnet, json, ...quotas }, tenant) {
    const node = await this.node();
    const view = await node.createTenant({
      tenant,
      quotas: quotasOf(quotas),
      ...(netId === undefined ? {} : { netId }),
      ...(subnet === undefined ? {} : { subnet }),
    });
    if (json) this.out.json(view);
    else this.out.data(`${view.tenant_id}: subnet ${view.subnet}, bridge ${view.bridge}`);
  },
});
