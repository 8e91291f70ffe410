import { type Command, buildCommand } from "@stricli/core";
import type { PoolAddress } from "../../../domain/ids.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag, overrideFlag, poolArgument, wholeNumber } from "../../parameters.ts";

interface Flags {
  readonly timeout: number;
  readonly network: boolean;
  readonly keepStore: boolean;
  readonly override?: number;
  readonly json: boolean;
}

/** `mvm pool build` */
export const poolBuild: Command<CliContext> = buildCommand<Flags, [PoolAddress], CliContext>({
  docs: {
    brief: "Build a pool's image with Nix in an ephemeral microVM",
    fullDescription:
      "Builds the image from the pool's flake and makes it current. An unchanged flake is answered from the store. Instances take it at their next start.",
  },
  parameters: {
    positional: poolArgument,
    flags: {
      timeout: {
        kind: "parsed",
        parse: wholeNumber(10, 86_400),
        default: "3600",
        brief: "Seconds after which the build is ended",
        placeholder: "seconds",
      },
      network: {
        kind: "boolean",
        default: false,
        brief: "Let the builder fetch what the flake locks; it reaches no tenant and not this host",
      },
      keepStore: {
        kind: "boolean",
        default: false,
        brief: "Keep the builder's Nix store for this tenant's next build with this flag",
      },
      ...overrideFlag,
      ...jsonFlag,
    },
  },
  async func({ timeout, network, keepStore, override, json }, address) {
    const options = { timeoutMs: timeout * 1000, network, keepStore };
    const revision = await (await this.node()).buildPool(address, options, override);
    if (json) this.out.json(revision);
    else this.out.data(`${address.tenant}/${address.pool}: image ${revision.hash}`);
  },
});
