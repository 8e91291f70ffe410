import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";
import {
  type InstanceName,
  instanceArgument,
  jsonFlag,
  resolveInstance,
} from "../../parameters.ts";

/** `mvm instance info` */
export const instanceInfo: Command<CliContext> = buildCommand<
  { json: boolean },
  [InstanceName],
  CliContext
>({
  docs: { brief: "Show an instance and, when it failed, why" },
  parameters: { positional: instanceArgument, flags: jsonFlag },
  async func({ json }, name) {
    const node = await this.records();
    const instance = await node.instance(await resolveInstance(node, name));
    if (json) {
      this.out.json(instance);
      return;
    }
    const lines = [
      `Instance:   ${instance.address}`,
      `Role:       ${instance.role}`,
      `Status:     ${instance.status}${instance.since === null ? "" : ` since ${instance.since}`}`,
      `Operation:  ${instance.operation ?? "none"}`,
      `Network:    ${instance.ip}, ${instance.mac}`,
      `VMM:        ${instance.pid === null ? "none" : `pid ${instance.pid}`}`,
      `Image:      ${instance.revision ?? "-"}`,
    ];
    const { manual_override_until } = instance;
    if (manual_override_until !== null && Date.parse(manual_override_until) > Date.now()) {
      lines.push(`By hand:    the reconciler leaves it alone until ${manual_override_until}`);
    }
    if (instance.cause !== null) {
      lines.push(`Cause:      ${instance.cause}`, "Last console lines:");
      lines.push(...instance.console.map((line) => `  ${line}`));
    }
    this.out.data(lines.join("\n"));
  },
});
