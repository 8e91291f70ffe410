import { type Command, buildCommand } from "@stricli/core";
import type { PoolAddress } from "../../../domain/ids.ts";
import { parseProfile } from "../../../domain/pool-limits.ts";
import { type Role, parseRole } from "../../../domain/roles.ts";
import type { CliContext } from "../../context.ts";
import { type EgressFlagValues, egressFlags, egressOf } from "../../egress-flags.ts";
import {
  type SecretScopeFlagValues,
  secretScopeFlags,
  secretScopesOf,
} from "../../secret-scope-flags.ts";
import { jsonFlag, poolArgument, wholeNumber } from "../../parameters.ts";

interface Flags extends EgressFlagValues, SecretScopeFlagValues {
  readonly flake: string;
  readonly profile: string;
  readonly role: Role;
  readonly cpus: number;
  readonly mem: number;
  readonly dataDisk: number;
  readonly json: boolean;
}

/** `mvm pool create` */
export const poolCreate: Command<CliContext> = buildCommand<Flags, [PoolAddress], CliContext>({
  docs: { brief: "Make a pool; it has no instances until it is scaled" },
  parameters: {
    positional: poolArgument,
    flags: {
      flake: {
        kind: "parsed",
        parse: String,
        brief:
          "What the image is built from: builtin:hello, builtin:openclaw, path:/dir or github:owner/repo",
        placeholder: "ref",
      },
      profile: {
        kind: "parsed",
        parse: parseProfile,
        default: "minimal",
        brief: "Profile of the flake",
      },
      role: {
        kind: "parsed",
        parse: parseRole,
        default: "worker",
        brief: "gateway, worker, builder or capability-<name>; fixed for good",
      },
      cpus: { kind: "parsed", parse: wholeNumber(1, 32), default: "1", brief: "vCPUs each" },
      mem: {
        kind: "parsed",
        parse: wholeNumber(128, 1_048_576),
        default: "512",
        brief: "Memory each, in MiB",
      },
      dataDisk: {
        kind: "parsed",
        parse: wholeNumber(0, 16_777_216),
        default: "0",
        brief: "Data disk each, in MiB; 0 for none",
      },
      ...egressFlags,
      ...secretScopeFlags,
      ...jsonFlag,
    },
  },
  async func({ flake, profile, role, cpus, mem, dataDisk, json, ...flags }, address) {
    const pool = await (
      await this.node()
    ).createPool({
      address,
      role,
      flakeRef: flake,
      profile,
      egress: egressOf(flags),
      resources: { vcpus: cpus, mem_mib: mem, data_disk_mib: dataDisk },
      secretScopes: secretScopesOf(flags),
    });
    if (json) this.out.json(pool);
    else {
      this.out.data(
        `${pool.address} created; bring up instances with: mvm pool scale ${pool.address} --running 1`,
      );
    }
  },
});
