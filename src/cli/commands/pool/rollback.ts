import { type Command, buildCommand } from "@stricli/core";
import { UsageError } from "../../../domain/errors.ts";
import type { PoolAddress } from "../../../domain/ids.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag, overrideFlag, poolArgument } from "../../parameters.ts";

interface Flags {
  readonly revision: string;
  readonly dryRun: boolean;
  readonly override?: number;
  readonly json: boolean;
}

/** `mvm pool rollback` */
export const poolRollback: Command<CliContext> = buildCommand<Flags, [PoolAddress], CliContext>({
  docs: {
    brief: "Make an earlier image of a pool current again, without a build",
    fullDescription:
      "Goes back to one of the images that `mvm pool info` lists. Instances that run stay on theirs until they are started again: mvm instance stop and start, one by one.",
  },
  parameters: {
    positional: poolArgument,
    flags: {
      revision: {
        kind: "parsed",
        parse: revisionPrefix,
        brief: "Hash of the image, or as much of it as no other image of the pool begins with",
        placeholder: "hash",
      },
      dryRun: { kind: "boolean", default: false, brief: "Only say what would be current" },
      ...overrideFlag,
      ...jsonFlag,
    },
  },
  async func({ revision, dryRun, override, json }, address) {
    const node = await this.node();
    const hash = dryRun
      ? await node.planRollback(address, revision)
      : await node.rollbackPool(address, revision, override);
    const name = `${address.tenant}/${address.pool}`;
    if (json) this.out.json({ pool: name, revision: hash, dry_run: dryRun });
    else this.out.data(`${name}: image ${hash} ${dryRun ? "would be" : "is"} current`);
  },
});

function revisionPrefix(text: string): string {
  if (/^[0-9a-f]{4,64}$/.test(text)) return text;
  throw new UsageError(`"${text}" is not the hash of an image`, {
    hint: "give at least the first 4 of its hexadecimal digits; `mvm pool info` lists them",
  });
}
