import { type Command, buildCommand } from "@stricli/core";
import type { NodeInfo } from "../../../ports/host-setup.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag } from "../../parameters.ts";

/** `mvm node info` */
export const nodeInfo: Command<CliContext> = buildCommand<{ json: boolean }, [], CliContext>({
  docs: { brief: "Show what this node is and has" },
  parameters: { flags: jsonFlag },
  async func({ json }) {
    const info = await (await this.host()).info();
    if (json) {
      this.out.json(info);
      return;
    }
    this.out.data(
      [
        `Node:         ${info.node_id ?? "none yet: run `mvm add host`"}`,
        `Version:      mvm ${info.version}`,
        `Machine:      ${info.architecture}, ${info.vcpus} vCPUs, ${info.memory_mib} MiB`,
        `VMM:          ${info.vmm ?? "none"} ${info.vmm_version ?? ""} (${info.accelerator ?? "not probed"})`,
        `KVM:          ${info.kvm ? "yes" : "no"}`,
        `cgroup v2:    ${info.cgroup_v2 ? "yes" : "no"}`,
        `Production:   ${productionLine(info)}`,
        ...info.waivers.map(
          ({ promise, reason, until, needed }) =>
            `Waived:       ${promise} until ${until}: ${reason}${needed ? "" : " (not needed)"}`,
        ),
        `Certificate:  ${info.certificate_expires_at === null ? "none" : `until ${info.certificate_expires_at}`}`,
      ].join("\n"),
    );
  },
});

function productionLine({ production, enforced, lacking, waivers_problem }: NodeInfo): string {
  if (!production) return "no: a development node";
  const problem = waivers_problem === null ? "" : `; no waiver holds: ${waivers_problem}`;
  return lacking.length === 0
    ? `yes; enforced: ${enforced.join(", ")}${problem}`
    : `yes; NO microVM STARTS: it lacks ${lacking.join(", ")}${problem}`;
}
