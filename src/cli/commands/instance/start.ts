import { type Command, buildCommand } from "@stricli/core";
import { formatInstance } from "../../../domain/ids.ts";
import type { CliContext } from "../../context.ts";
import { type InstanceName, instanceArgument, resolveInstance } from "../../parameters.ts";

/** `mvm instance start` */
export const instanceStart: Command<CliContext> = buildCommand<object, [InstanceName], CliContext>({
  docs: {
    brief: "Boot an instance",
    fullDescription:
      "Boot an instance. The reconciler then leaves the instance alone for 10 minutes.",
  },
  parameters: { positional: instanceArgument },
  async func(_flags, name) {
    const node = await this.node();
    const address = await resolveInstance(node, name);
    await node.startInstance(address);
    this.out.data(`${formatInstance(address)} is running`);
  },
});
