import { type Command, buildCommand } from "@stricli/core";
import type { NodeStats } from "../../../node/stats.ts";
import type { CliContext } from "../../context.ts";
import { table } from "../../output.ts";
import { jsonFlag } from "../../parameters.ts";

/** `mvm node stats` */
export const nodeStats: Command<CliContext> = buildCommand<{ json: boolean }, [], CliContext>({
  docs: { brief: "Measure what this node and its tenants take" },
  parameters: { flags: jsonFlag },
  async func({ json }) {
    const stats = await (await this.node()).nodeStats();
    if (json) this.out.json(stats);
    else this.out.data(renderStats(stats));
    for (const { path, problem } of stats.corrupt) this.out.note(`${path}: ${problem}`);
  },
});

function renderStats({ host, vmms, tenants }: NodeStats): string {
  const lines = [
    `CPUs:    ${host.vcpus}, load ${host.load_1m.toFixed(2)}`,
    `Memory:  ${host.memory_available_mib} MiB available of ${host.memory_total_mib} MiB`,
    `Disk:    ${host.disk_free_mib} MiB free of ${host.disk_total_mib} MiB`,
    `VMMs:    ${vmms.count}, ${vmms.resident_mib} MiB in memory, ${vmms.cpu_seconds} s of CPU`,
  ];
  if (tenants.length === 0) return lines.join("\n");
  const rows = tenants.map(({ tenant_id, instances, wanted, vmms, deferred_total, last_error }) => [
    tenant_id,
    `${instances["running"] ?? 0}/${wanted.running}`,
    `${instances["warm"] ?? 0}/${wanted.warm}`,
    String(instances["failed"] ?? 0),
    `${vmms.resident_mib} MiB`,
    String(deferred_total),
    last_error?.cause ?? "-",
  ]);
  const headings = ["TENANT", "RUNNING", "WARM", "FAILED", "MEMORY", "DEFERRED", "LAST ERROR"];
  return [...lines, "", table(headings, rows)].join("\n");
}
