import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../context.ts";

/** `mvm add host` */
export const addHost: Command<CliContext> = buildCommand<object, [], CliContext>({
  docs: {
    brief: "Prepare this machine to be a node",
    fullDescription:
      "Installs what is missing, prepares kernel, guest base, builder and payloads, finds how microVMs run here by booting one, and makes the node's id and certificate. Safe to run again: it changes only what is missing.",
  },
  parameters: {},
  async func() {
    const host = await this.host();
    const done = await host.prepare(this.signal);
    for (const line of done) this.out.data(line);
    this.out.data("this machine is a node; next: mvm new openclaw <name>");
  },
});
