import { type Command, buildCommand } from "@stricli/core";
import type { TenantId } from "../../../domain/ids.ts";
import { confirm } from "../../confirm.ts";
import type { CliContext } from "../../context.ts";
import { replaceKeyFlag, tenantArgument, yesFlag } from "../../parameters.ts";
import { describeKey } from "./key-status.ts";

/** `mvm tenant key generate` */
export const tenantKeyGenerate: Command<CliContext> = buildCommand<
  { force: boolean; yes: boolean },
  [TenantId],
  CliContext
>({
  docs: {
    brief: "Make the key of a tenant that has none",
    fullDescription:
      "A tenant is made with its key, so this is for one whose key was lost. With --force a key that is there is replaced: snapshots and encrypted data disks that were made with it can never be read again.",
  },
  parameters: { positional: tenantArgument, flags: { ...replaceKeyFlag, ...yesFlag } },
  async func({ force, yes }, tenant) {
    const node = await this.node();
    if (force && (await node.tenantKey(tenant)).present) {
      await confirm(this, `Replace the key of ${tenant}? What it encrypted is lost.`, yes);
    }
    this.out.data(describeKey(tenant, await node.generateTenantKey(tenant, force)));
  },
});
