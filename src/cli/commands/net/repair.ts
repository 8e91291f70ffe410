import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";
import { jsonFlag } from "../../parameters.ts";

/** `mvm net repair` */
export const netRepair: Command<CliContext> = buildCommand<{ json: boolean }, [], CliContext>({
  docs: {
    brief: "Make bridges, addresses, rules, TAPs and DNS what the records say",
    fullDescription:
      "Every command that starts or stops an instance does the same; what is as it should be is not touched.",
  },
  parameters: { flags: jsonFlag },
  async func({ json }) {
    const node = await this.node();
    await node.repairNetwork();
    const left = await node.verifyNetwork();
    if (json) this.out.json({ differences: left });
    else {
      for (const { name, problem, repair } of left) this.out.note(`${name} ${problem}: ${repair}`);
      this.out.data(
        left.length === 0 ? "the network is as it should be" : `${left.length} differences left`,
      );
    }
    if (left.length > 0) this.exitWith(1);
  },
});
