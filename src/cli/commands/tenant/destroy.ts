import { type Command, buildCommand } from "@stricli/core";
import type { TenantId } from "../../../domain/ids.ts";
import { confirm } from "../../confirm.ts";
import type { CliContext } from "../../context.ts";
import { previewDestroy } from "../../preview-destroy.ts";
import { dryRunFlag, overrideFlag, tenantArgument, wipeFlag, yesFlag } from "../../parameters.ts";

interface Flags {
  readonly force: boolean;
  readonly wipeVolumes: boolean;
  readonly yes: boolean;
  readonly dryRun: boolean;
  readonly override?: number;
}

/** `mvm tenant destroy` */
export const tenantDestroy: Command<CliContext> = buildCommand<Flags, [TenantId], CliContext>({
  docs: { brief: "Remove a tenant and, with --force, everything it has" },
  parameters: {
    positional: tenantArgument,
    flags: {
      force: { kind: "boolean", default: false, brief: "Also when it has pools and instances" },
      ...wipeFlag,
      ...yesFlag,
      ...dryRunFlag,
      ...overrideFlag,
    },
  },
  async func({ force, wipeVolumes, yes, dryRun, override }, tenant) {
    const node = await this.node();
    const { instances } = await node.tenant(tenant);
    if (dryRun) {
      await previewDestroy(this, node, { kind: "tenant", tenant, object: tenant }, wipeVolumes);
      return;
    }
    const disks = wipeVolumes ? "their data disks are removed too" : "data disks are kept";
    await confirm(this, `Destroy tenant ${tenant} with ${instances} instances (${disks})?`, yes);
    await node.destroyTenant(tenant, { force, wipe: wipeVolumes, overrideMs: override });
    this.out.data(`tenant ${tenant} destroyed`);
  },
});
