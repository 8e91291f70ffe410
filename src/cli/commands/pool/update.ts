import { type Command, buildCommand } from "@stricli/core";
import { ConflictError, UsageError } from "../../../domain/errors.ts";
import { type PoolAddress, formatPool } from "../../../domain/ids.ts";
import type { PoolUpdate } from "../../../node/update.ts";
import type { CliContext } from "../../context.ts";
import { type EgressFlagValues, egressFlags, egressOf } from "../../egress-flags.ts";
import {
  dryRunFlag,
  jsonFlag,
  optionalNumber,
  optionalText,
  overrideFlag,
  poolArgument,
} from "../../parameters.ts";
import {
  type SecretScopeFlagValues,
  secretScopeFlags,
  secretScopesOf,
} from "../../secret-scope-flags.ts";
import { reportChanges } from "../../render-changes.ts";

interface Flags extends EgressFlagValues, SecretScopeFlagValues {
  readonly flake?: string;
  readonly profile?: string;
  readonly role?: string;
  readonly cpus?: number;
  readonly mem?: number;
  readonly dataDisk?: number;
  readonly minRunning?: number;
  readonly minWarm?: number;
  readonly drainTimeout?: number;
  readonly gracefulShutdown?: number;
  readonly startTimeout?: number;
  readonly pinned?: boolean;
  readonly critical?: boolean;
  readonly dryRun: boolean;
  readonly override?: number;
  readonly json: boolean;
}

const day = 86_400;

/** `mvm pool update` */
export const poolUpdate: Command<CliContext> = buildCommand<Flags, [PoolAddress], CliContext>({
  docs: {
    brief: "Change what a pool's instances are made of and how they are treated",
    fullDescription:
      "Resources, image and secret scopes are in effect from each instance's next start; a data disk keeps the size it was made with. After --flake or --profile, build the image with `mvm pool build`. With --dry-run, only says what would change.",
  },
  parameters: {
    positional: poolArgument,
    flags: {
      flake: optionalText("What the image is built from", "ref"),
      profile: optionalText("Profile of the flake", "profile"),
      role: optionalText("Refused: a pool's role is fixed when it is made", "role"),
      cpus: optionalNumber(1, 32, "vCPUs each"),
      mem: optionalNumber(128, 1_048_576, "Memory each, in MiB"),
      dataDisk: optionalNumber(0, 16_777_216, "Data disk of new instances, in MiB; 0 for none"),
      minRunning: optionalNumber(0, day, "Least running time before surplus is taken away, in s"),
      minWarm: optionalNumber(0, day, "Least warm time before a spare is taken away, in s"),
      drainTimeout: optionalNumber(0, day, "How long a guest may drain before it sleeps, in s"),
      gracefulShutdown: optionalNumber(0, day, "How long a guest may take to end, in s"),
      startTimeout: optionalNumber(1, day, "How long a start may take until it is healthy, in s"),
      pinned: {
        kind: "boolean",
        optional: true,
        brief: "Whether instances that serve are never parked as spares",
      },
      critical: {
        kind: "boolean",
        optional: true,
        brief: "Whether instances are made and repaired, and never stopped or parked",
      },
      ...egressFlags,
      ...secretScopeFlags,
      ...dryRunFlag,
      ...overrideFlag,
      ...jsonFlag,
    },
  },
  async func({ dryRun, override, json, ...flags }, address) {
    if (flags.role !== undefined) {
      throw new ConflictError("a pool's role is fixed when it is made", {
        hint: "make another pool: mvm pool create <tenant>/<pool> --role ROLE",
      });
    }
    const update = updateOf(flags);
    if (Object.keys(update).length === 0) {
      throw new UsageError("nothing to update", { hint: "see: mvm pool update --help" });
    }
    const node = await this.node();
    const options = { dryRun, overrideMs: override };
    const changes = await node.updatePool(address, update, options);
    reportChanges(this, { object: formatPool(address), changes, dryRun, json });
    const isImageOld = changes.some((change) => /^(flake_ref|profile):/.test(change));
    if (isImageOld && !dryRun) {
      this.out.note(`build the new image with: mvm pool build ${formatPool(address)}`);
    }
  },
});

function updateOf(flags: Omit<Flags, "dryRun" | "json">): PoolUpdate {
  return given({
    flakeRef: flags.flake,
    profile: flags.profile,
    resources: givenOrNone({
      vcpus: flags.cpus,
      mem_mib: flags.mem,
      data_disk_mib: flags.dataDisk,
    }),
    runtimePolicy: givenOrNone({
      min_running_seconds: flags.minRunning,
      min_warm_seconds: flags.minWarm,
      drain_timeout_seconds: flags.drainTimeout,
      graceful_shutdown_seconds: flags.gracefulShutdown,
    }),
    startTimeoutSeconds: flags.startTimeout,
    egress: egressOf(flags),
    secretScopes: secretScopesOf(flags),
    pinned: flags.pinned,
    critical: flags.critical,
  });
}

type Given<T> = { readonly [Name in keyof T]?: Exclude<T[Name], undefined> };

/** The fields that are not undefined. */
function given<T extends object>(fields: T): Given<T> {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Given<T>;
}

function givenOrNone<T extends object>(fields: T): Given<T> | undefined {
  const found = given(fields);
  return Object.keys(found).length === 0 ? undefined : found;
}
