import { type Command, buildCommand } from "@stricli/core";
import { formatEgress } from "../../../domain/egress.ts";
import type { PoolAddress } from "../../../domain/ids.ts";
import type { RevisionView } from "../../../node/views.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag, poolArgument } from "../../parameters.ts";
import { managedBy } from "../../render-managed.ts";

/** `mvm pool info` */
export const poolInfo: Command<CliContext> = buildCommand<
  { json: boolean },
  [PoolAddress],
  CliContext
>({
  docs: { brief: "Show a pool" },
  parameters: { positional: poolArgument, flags: jsonFlag },
  async func({ json }, address) {
    const pool = await (await this.node()).pool(address);
    if (json) {
      this.out.json(pool);
      return;
    }
    const { vcpus, mem_mib, data_disk_mib } = pool.instance_resources;
    const { running, warm, sleeping } = pool.desired_counts;
    this.out.data(
      [
        `Pool:       ${pool.address}`,
        `Role:       ${pool.role}`,
        `Managed:    ${managedBy(pool)}${treatment(pool)}`,
        `Flake:      ${pool.flake_ref} (profile ${pool.profile})`,
        `Resources:  ${vcpus} vCPU, ${mem_mib} MiB memory, ${data_disk_mib} MiB data disk`,
        `Egress:     ${formatEgress(pool.egress)}`,
        `Minimums:   ${pool.runtime_policy.min_running_seconds} s running, ${pool.runtime_policy.min_warm_seconds} s warm`,
        `Wanted:     ${running} running, ${warm} warm, ${sleeping} sleeping`,
        `Instances:  ${pool.instances}`,
        `Images:     ${pool.images.map(describeImage).join("\n            ") || "none yet"}`,
      ].join("\n"),
    );
  },
});

function treatment({ pinned, critical }: { pinned: boolean; critical: boolean }): string {
  return `${pinned ? "; pinned" : ""}${critical ? "; critical" : ""}`;
}

/** `<hash>  <when>  <size>  current, used by 2`: the hash is whole, since `rollback` takes it. */
function describeImage(image: RevisionView): string {
  const marks = [
    ...(image.current ? ["current"] : []),
    ...(image.instances > 0 ? [`used by ${image.instances}`] : []),
    ...(image.present ? [] : ["not in the store: build it again"]),
  ];
  const size = image.size_bytes === null ? "" : `${Math.round(image.size_bytes / 1024 ** 2)} MiB`;
  return [image.hash, image.built_at ?? "", size, marks.join(", ")]
    .filter((part) => part !== "")
    .join("  ");
}
