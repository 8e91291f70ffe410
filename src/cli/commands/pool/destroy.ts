import { type Command, buildCommand } from "@stricli/core";
import { type PoolAddress, formatPool } from "../../../domain/ids.ts";
import { confirm } from "../../confirm.ts";
import type { CliContext } from "../../context.ts";
import { previewDestroy } from "../../preview-destroy.ts";
import { dryRunFlag, overrideFlag, poolArgument, wipeFlag, yesFlag } from "../../parameters.ts";

interface Flags {
  readonly force: boolean;
  readonly wipeVolumes: boolean;
  readonly yes: boolean;
  readonly dryRun: boolean;
  readonly override?: number;
}

/** `mvm pool destroy` */
export const poolDestroy: Command<CliContext> = buildCommand<Flags, [PoolAddress], CliContext>({
  docs: { brief: "Remove a pool and, with --force, its instances" },
  parameters: {
    positional: poolArgument,
    flags: {
      force: { kind: "boolean", default: false, brief: "Also when it has instances" },
      ...wipeFlag,
      ...yesFlag,
      ...dryRunFlag,
      ...overrideFlag,
    },
  },
  async func({ force, wipeVolumes, yes, dryRun, override }, address) {
    const node = await this.node();
    const { instances } = await node.pool(address);
    if (dryRun) {
      const pool = { kind: "pool", tenant: address.tenant, object: formatPool(address) } as const;
      await previewDestroy(this, node, pool, wipeVolumes);
      return;
    }
    await confirm(this, `Destroy pool ${formatPool(address)} with ${instances} instances?`, yes);
    await node.destroyPool(address, { force, wipe: wipeVolumes, overrideMs: override });
    this.out.data(`pool ${formatPool(address)} destroyed`);
  },
});
