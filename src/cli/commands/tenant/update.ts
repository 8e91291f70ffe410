import { type Command, buildCommand } from "@stricli/core";
import { UsageError } from "../../../domain/errors.ts";
import type { TenantId } from "../../../domain/ids.ts";
import type { CliContext } from "../../context.ts";
import { dryRunFlag, jsonFlag, overrideFlag, tenantArgument } from "../../parameters.ts";
import { type QuotaFlagValues, quotaFlags, quotasOf } from "../../quota-flags.ts";
import { reportChanges } from "../../render-changes.ts";

interface Flags extends QuotaFlagValues {
  readonly pinned?: boolean;
  readonly dryRun: boolean;
  readonly override?: number;
  readonly json: boolean;
}

/** `mvm tenant update` */
export const tenantUpdate: Command<CliContext> = buildCommand<Flags, [TenantId], CliContext>({
  docs: {
    brief: "Change a tenant's quotas, or pin it",
    fullDescription:
      "A quota below what is used now is refused (exit code 5). With --dry-run, only says what would change.",
  },
  parameters: {
    positional: tenantArgument,
    flags: {
      ...quotaFlags,
      pinned: {
        kind: "boolean",
        optional: true,
        brief: "Whether its instances are never stopped as surplus",
      },
      ...dryRunFlag,
      ...overrideFlag,
      ...jsonFlag,
    },
  },
  async func({ pinned, dryRun, override, json, ...flags }, tenant) {
    const quotas = quotasOf(flags);
    if (pinned === undefined && Object.keys(quotas).length === 0) {
      throw new UsageError("nothing to update", { hint: "give a quota, --pinned or --no-pinned" });
    }
    const node = await this.node();
    const update = { quotas, ...(pinned === undefined ? {} : { pinned }) };
    const changes = await node.updateTenant(tenant, update, { dryRun, overrideMs: override });
    reportChanges(this, { object: tenant, changes, dryRun, json });
  },
});
