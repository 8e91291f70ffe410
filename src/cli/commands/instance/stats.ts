import { type Command, buildCommand } from "@stricli/core";
import type { InstanceStats } from "../../../node/stats.ts";
import type { CliContext } from "../../context.ts";
import {
  type InstanceName,
  instanceArgument,
  jsonFlag,
  resolveInstance,
} from "../../parameters.ts";

/** `mvm instance stats` */
export const instanceStats: Command<CliContext> = buildCommand<
  { json: boolean },
  [InstanceName],
  CliContext
>({
  docs: { brief: "Measure what an instance takes, and how its guest is" },
  parameters: { positional: instanceArgument, flags: jsonFlag },
  async func({ json }, name) {
    const node = await this.node();
    const stats = await node.instanceStats(await resolveInstance(node, name));
    if (json) this.out.json(stats);
    else this.out.data(renderStats(stats));
  },
});

function renderStats(stats: InstanceStats): string {
  const { vmm, guest, data_disk, traffic, resources } = stats;
  const services = guest?.services.map(({ name, health }) => `${name} ${health}`).join(", ");
  return [
    `Instance:   ${stats.address}`,
    `Status:     ${stats.status}${stats.since === null ? "" : ` since ${stats.since}`}`,
    `Given:      ${resources.vcpus} vCPU, ${resources.mem_mib} MiB memory, ${resources.data_disk_mib} MiB data disk`,
    vmm === null
      ? "VMM:        none"
      : `VMM:        pid ${vmm.pid}, ${vmm.cpu_percent} % of a CPU now, ${vmm.cpu_seconds} s in all, ${vmm.resident_mib} MiB in memory`,
    guest === null
      ? `Guest:      ${stats.guest_problem ?? "no answer"}`
      : `Guest:      up ${Math.floor(guest.uptime_seconds)} s, ${guest.memory_available_mib} MiB available; ${services === "" ? "no services" : services}`,
    data_disk === null
      ? "Data disk:  none"
      : `Data disk:  ${data_disk.allocated_mib} MiB taken of ${data_disk.size_mib} MiB`,
    traffic === null
      ? "Network:    no port"
      : `Network:    ${traffic.received_bytes} bytes received, ${traffic.sent_bytes} sent`,
  ].join("\n");
}
