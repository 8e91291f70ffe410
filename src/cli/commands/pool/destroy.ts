import { type Command, buildCommand } from "@stricli/core";
import { type PoolAddress, formatPool } from "../../../domain/ids.ts";
import { confirm } from "../../confirm.ts";
import type { CliContext } from "../../context.ts";
import { overrideFlag, poolArgument, wipeFlag, yesFlag } from "../../parameters.ts";

interface Flags {
  readonly force: boolean;
  readonly wipeVolumes: boolean;
  readonly yes: boolean;
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
      ...overrideFlag,
    },
  },
  async func({ force, wipeVolumes, yes, override }, address) {
    const node = await this.node();
    const { instances } = await node.pool(address);
    await confirm(this, `Destroy pool ${formatPool(address)} with ${instances} instances?`, yes);
    await node.destroyPool(address, { force, wipe: wipeVolumes, overrideMs: override });
    this.out.data(`pool ${formatPool(address)} destroyed`);
  },
});
