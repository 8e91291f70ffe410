import { isatty } from "node:tty";
import { type Command, buildCommand } from "@stricli/core";
import { UsageError } from "../../domain/errors.ts";
import type { TenantId } from "../../domain/ids.ts";
import type { CliContext } from "../context.ts";
import { jsonFlag, tenantArgument } from "../parameters.ts";
import { pause } from "../../ports/pause.ts";
import { noteCorrupt } from "../render-corrupt.ts";
import { renderDashboard } from "../render-dashboard.ts";

const refreshMs = 2000;
const clearScreen = "\u001B[H\u001B[2J";

interface Flags {
  readonly watch: boolean;
  readonly json: boolean;
}

/** `mvm connect` */
export const connect: Command<CliContext> = buildCommand<Flags, [TenantId], CliContext>({
  docs: { brief: "Show a deployment's dashboard" },
  parameters: {
    positional: tenantArgument,
    flags: {
      watch: { kind: "boolean", default: false, brief: "Show it anew as it changes, until Ctrl-C" },
      ...jsonFlag,
    },
  },
  async func({ watch, json }, tenant) {
    if (watch && json) throw new UsageError("--watch is for a person: leave --json out");
    const node = await this.node();
    noteCorrupt(this.out, await node.corrupt(tenant));
    if (json) {
      this.out.json(await node.dashboard(tenant));
      return;
    }
    if (!watch) {
      this.out.data(renderDashboard(await node.dashboard(tenant)));
      return;
    }
    const onTerminal = isatty(1);
    let last = "";
    while (!this.signal.aborted) {
      const text = renderDashboard(await node.dashboard(tenant));
      // Elsewhere than on a terminal only what changed is worth another copy.
      if (onTerminal) this.out.data(`${clearScreen}${text}`);
      else if (text !== last) this.out.data(`${last === "" ? "" : "\n"}${text}`);
      last = text;
      await pause(refreshMs, this.signal);
    }
  },
});
