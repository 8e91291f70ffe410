import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../context.ts";
import { table } from "../output.ts";
import { jsonFlag } from "../parameters.ts";

/** `mvm doctor` */
export const doctor: Command<CliContext> = buildCommand<
  { leaks: boolean; json: boolean },
  [],
  CliContext
>({
  docs: {
    brief: "Show what this host has and lacks, and what mends it",
    fullDescription:
      "Ends with exit code 7 when the host lacks something; with --leaks, with exit code 1 when something is there that no record owns.",
  },
  parameters: {
    flags: {
      leaks: {
        kind: "boolean",
        default: false,
        brief: "Instead, list what is on this host without an owner",
      },
      ...jsonFlag,
    },
  },
  async func({ leaks, json }) {
    const host = await this.host();
    if (leaks) {
      const found = await host.leaks();
      if (json) this.out.json(found);
      else {
        const rows = found.map(({ kind, name, detail }) => [kind, name, detail]);
        if (rows.length > 0) this.out.data(table(["KIND", "NAME", "DETAIL"], rows));
        this.out.data(`${found.length} leaks`);
      }
      if (found.length > 0) this.exitWith(1);
      return;
    }
    const findings = await host.diagnose();
    if (json) this.out.json(findings);
    else {
      const rows = findings.map(({ feature, status, detail, fix }) => [
        status,
        feature,
        detail,
        fix,
      ]);
      this.out.data(table(["STATUS", "FEATURE", "DETAIL", "FIX"], rows));
    }
    if (findings.some(({ status }) => status === "missing")) this.exitWith(7);
  },
});
