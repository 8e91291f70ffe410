import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";
import { dryRunFlag, jsonFlag } from "../../parameters.ts";
import { printPlan } from "../../render-plan.ts";
import { reportReconcile } from "../../render-reconcile.ts";

interface Flags {
  readonly desired: string;
  readonly prune: boolean;
  readonly dryRun: boolean;
  readonly json: boolean;
}

/** `mvm agent reconcile` */
export const agentReconcile: Command<CliContext> = buildCommand<Flags, [], CliContext>({
  docs: {
    brief: "Bring this node to a desired-state document, once",
    fullDescription:
      "Takes the document as a push does, so that it stays in force, and makes tenants, pools and instances what it says, until nothing is left that waiting would end. A signed document is checked; in production no other is taken. With --dry-run prints what would be done first and changes nothing.",
  },
  parameters: {
    positional: { kind: "tuple", parameters: [] },
    flags: {
      desired: {
        kind: "parsed",
        parse: String,
        brief: "JSON file: a document, or a signed one",
        placeholder: "file",
      },
      prune: {
        kind: "boolean",
        default: false,
        brief: "Remove tenants and pools that documents manage and this one does not name",
      },
      ...dryRunFlag,
      ...jsonFlag,
    },
  },
  async func({ desired, prune, dryRun, json }) {
    const { readDesiredFile } = await import("../../desired-file.ts");
    const request = await readDesiredFile(desired);
    const node = await this.node();
    if (dryRun) {
      printPlan(this, await node.planDesired(request, { prune }), json);
      return;
    }
    const result = await node.reconcileDesired(request, { prune });
    if (json) this.out.json(result);
    else if (result.converged) this.out.data("the node is as the document says");
    reportReconcile(this, result);
  },
});
