import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";
import {
  type InstanceName,
  instanceArgument,
  resolveInstance,
  wholeNumber,
} from "../../parameters.ts";

interface Flags {
  readonly console: boolean;
  readonly service?: string;
  readonly lines: number;
  readonly follow: boolean;
}

/** `mvm instance logs` */
export const instanceLogs: Command<CliContext> = buildCommand<Flags, [InstanceName], CliContext>({
  docs: { brief: "Show what the services of a guest logged, or its console" },
  parameters: {
    positional: instanceArgument,
    flags: {
      console: {
        kind: "boolean",
        default: false,
        brief: "The guest's console, from the host: there also when the guest is not",
      },
      service: { kind: "parsed", parse: String, optional: true, brief: "Only this service" },
      lines: {
        kind: "parsed",
        parse: wholeNumber(1, 10_000),
        default: "100",
        brief: "How many lines at the most",
      },
      follow: {
        kind: "boolean",
        default: false,
        brief: "Go on with what comes, until the instance ends or Ctrl-C",
      },
    },
  },
  async func({ console: fromConsole, service, lines, follow }, name) {
    const node = await this.node();
    const address = await resolveInstance(node, name);
    if (follow) {
      const request = { console: fromConsole, service, lines };
      await node.followLogs(address, request, (line) => this.out.data(line));
      return;
    }
    const text = fromConsole
      ? await node.consoleLogs(address, lines)
      : await node.logs(address, service, lines);
    for (const line of text) this.out.data(line);
  },
});
