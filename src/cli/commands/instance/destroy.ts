import { type Command, buildCommand } from "@stricli/core";
import { formatInstance } from "../../../domain/ids.ts";
import { confirm } from "../../confirm.ts";
import type { CliContext } from "../../context.ts";
import { previewDestroy } from "../../preview-destroy.ts";
import {
  type InstanceName,
  dryRunFlag,
  instanceArgument,
  resolveInstance,
  wipeFlag,
  yesFlag,
} from "../../parameters.ts";

/** `mvm instance destroy` */
export const instanceDestroy: Command<CliContext> = buildCommand<
  { wipeVolumes: boolean; yes: boolean; dryRun: boolean },
  [InstanceName],
  CliContext
>({
  docs: { brief: "End an instance for good" },
  parameters: { positional: instanceArgument, flags: { ...wipeFlag, ...yesFlag, ...dryRunFlag } },
  async func({ wipeVolumes, yes, dryRun }, name) {
    const node = await this.node();
    const address = await resolveInstance(node, name);
    await node.instance(address);
    if (dryRun) {
      const instance = {
        kind: "instance",
        tenant: address.tenant,
        object: formatInstance(address),
      } as const;
      await previewDestroy(this, node, instance, wipeVolumes);
      return;
    }
    await confirm(this, `Destroy ${formatInstance(address)}?`, yes);
    await node.destroyInstance(address, wipeVolumes);
    this.out.data(`${formatInstance(address)} destroyed`);
  },
});
