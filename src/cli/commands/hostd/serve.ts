import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";

/** `mvm hostd serve` */
export const hostdServe: Command<CliContext> = buildCommand<object, [], CliContext>({
  docs: {
    brief: "Do for agentd what needs root",
    fullDescription:
      "Listens at hostd.sock of the run folder for agentd alone: a closed table of operations on instances, networks, drives, images and keys. It derives every path, user and rule from ids itself. SIGTERM ends it when what runs is done; microVMs go on. Needs the records to belong to agentd's user: mvm add host.",
  },
  parameters: {},
  async func() {
    await this.serveHostd();
    this.exitWith(0);
  },
});
