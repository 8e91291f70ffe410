import { type Command, buildCommand } from "@stricli/core";
import type { ExplainView } from "../../node/explain.ts";
import type { CliContext } from "../context.ts";
import { type ObjectName, jsonFlag, objectArgument, resolveInstance } from "../parameters.ts";
import { table } from "../output.ts";
import { renderEvent } from "../render-event.ts";

/** `mvm explain` */
export const explain: Command<CliContext> = buildCommand<
  { json: boolean },
  [ObjectName],
  CliContext
>({
  docs: {
    brief: "Say why a tenant, pool or instance is as it is",
    fullDescription:
      "Shows what is seen of it, what the next reconcile would do and what it holds back and why, its policy, the use of quotas, and its last events and console lines. Changes nothing.",
  },
  parameters: { positional: objectArgument, flags: jsonFlag },
  async func({ json }, name) {
    const node = await this.node();
    const view = await node.explain("id" in name ? await resolveInstance(node, name) : name);
    if (json) this.out.json(view);
    else this.out.data(renderExplanation(view));
  },
});

function renderExplanation(view: ExplainView): string {
  const { plan, runtime_policy, quotas, events, console } = view;
  const lines = [view.address, ...view.because.map((reason) => `  ${reason}`)];
  const section = (title: string, rows: readonly string[]): void => {
    if (rows.length > 0) lines.push("", title, ...rows.map((row) => `  ${row}`));
  };
  const actions = plan.actions.map(({ kind, object }) => `${kind} ${object}`);
  section("Next:", actions.length === 0 ? ["nothing is planned"] : actions);
  section(
    "Held back:",
    plan.held.map(({ object, reason, detail, untilMs }) => {
      const until = untilMs === undefined ? "" : ` (until ${new Date(untilMs).toISOString()})`;
      return `${object}: ${reason}: ${detail}${until}`;
    }),
  );
  section(
    "Runtime policy:",
    Object.entries(runtime_policy ?? {}).map(([field, seconds]) => `${field}: ${seconds}`),
  );
  const rows = quotas.map(({ quota, used, limit }) => [quota, String(used), String(limit)]);
  section("Quotas:", table(["QUOTA", "USED", "LIMIT"], rows).split("\n"));
  section("Last events:", events.map(renderEvent));
  section("Last console lines:", console);
  return lines.join("\n");
}
