import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";
import { table } from "../../output.ts";
import { jsonFlag } from "../../parameters.ts";

/** `mvm net verify` */
export const netVerify: Command<CliContext> = buildCommand<
  { deep: boolean; json: boolean },
  [],
  CliContext
>({
  docs: {
    brief: "Compare bridges, addresses, rules, TAPs and DNS with the records; changes nothing",
    fullDescription:
      "Ends with exit code 1 when something differs, and names the command that mends it. With --deep it also sends packets of stand-in guests through the rules of this host, in namespaces made for it, and shows the rules.",
  },
  parameters: {
    flags: {
      deep: {
        kind: "boolean",
        default: false,
        brief: "Send probes through the rules too, and show the rules",
      },
      ...jsonFlag,
    },
  },
  async func({ deep, json }) {
    const node = await this.node();
    const differences = await node.verifyNetwork();
    const report = deep ? await node.probeNetwork() : undefined;
    const wrong = (report?.probes ?? []).filter(({ allowed, passed }) => allowed !== passed);
    if (json) this.out.json({ differences, ...report });
    else {
      if (differences.length > 0) {
        const rows = differences.map(({ part, name, problem, repair }) => [
          part,
          name,
          problem,
          repair,
        ]);
        this.out.data(table(["PART", "NAME", "PROBLEM", "REPAIR"], rows));
      }
      if (report !== undefined) {
        const rows = report.probes.map(({ what, allowed, passed }) => [
          allowed === passed ? "ok" : "WRONG",
          passed ? "passed" : "dropped",
          what,
        ]);
        this.out.data(`${report.rules}\n${table(["RESULT", "PACKETS", "PROBE"], rows)}`);
      }
      this.out.data(
        `${differences.length} differences` +
          (report === undefined ? "" : `, ${wrong.length} of ${report.probes.length} probes wrong`),
      );
    }
    if (differences.length + wrong.length > 0) this.exitWith(1);
  },
});
