import { type Command, buildCommand } from "@stricli/core";
import { UsageError } from "../../../domain/errors.ts";
import type { PoolAddress } from "../../../domain/ids.ts";
import { maxDesiredCount } from "../../../domain/pool-limits.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag, overrideFlag, poolArgument, wholeNumber } from "../../parameters.ts";
import { printPlan } from "../../render-plan.ts";
import { reportReconcile } from "../../render-reconcile.ts";

interface Flags {
  readonly running?: number;
  readonly warm?: number;
  readonly sleeping?: number;
  readonly dryRun: boolean;
  readonly override?: number;
  readonly json: boolean;
}

const count = { kind: "parsed", parse: wholeNumber(0, maxDesiredCount), optional: true } as const;

/** `mvm pool scale` */
export const poolScale: Command<CliContext> = buildCommand<Flags, [PoolAddress], CliContext>({
  docs: { brief: "Set how many instances a pool has, and bring them about" },
  parameters: {
    positional: poolArgument,
    flags: {
      running: { ...count, brief: "Instances that serve" },
      warm: { ...count, brief: "Paused spares, memory kept" },
      sleeping: { ...count, brief: "Spares asleep in a snapshot" },
      dryRun: { kind: "boolean", default: false, brief: "Only say what would be done first" },
      ...overrideFlag,
      ...jsonFlag,
    },
  },
  async func({ dryRun, override, json, ...counts }, address) {
    const given = Object.fromEntries(Object.entries(counts).filter(([, n]) => n !== undefined));
    if (Object.keys(given).length === 0) {
      throw new UsageError("nothing to scale", { hint: "give --running, --warm or --sleeping" });
    }
    const node = await this.node();
    if (dryRun) {
      printPlan(this, await node.planScale(address, given), json);
      return;
    }
    const result = await node.scalePool(address, given, override);
    if (json) this.out.json(result);
    else if (result.converged) this.out.data(`${address.tenant}/${address.pool} is as asked`);
    reportReconcile(this, result);
  },
});
