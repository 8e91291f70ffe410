import { type Command, buildCommand } from "@stricli/core";
import type { PoolAddress } from "../../../domain/ids.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag, overrideFlag, poolArgument } from "../../parameters.ts";

/** `mvm pool build` */
export const poolBuild: Command<CliContext> = buildCommand<
  { override?: number; json: boolean },
  [PoolAddress],
  CliContext
>({
  docs: {
    brief: "Build a pool's image with Nix in an ephemeral microVM",
    fullDescription:
      "Builds the image from the pool's flake and makes it current. An unchanged flake is answered from the store. Instances take it at their next start.",
  },
  parameters: { positional: poolArgument, flags: { ...overrideFlag, ...jsonFlag } },
  async func({ override, json }, address) {
    const revision = await (await this.node()).buildPool(address, override);
    if (json) this.out.json(revision);
    else this.out.data(`${address.tenant}/${address.pool}: image ${revision.hash}`);
  },
});
