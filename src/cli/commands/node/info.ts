import { type Command, buildCommand } from "@stricli/core";
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
        `Certificate:  ${info.certificate_expires_at === null ? "none" : `until ${info.certificate_expires_at}`}`,
      ].join("\n"),
    );
  },
});
