import { type Command, buildCommand } from "@stricli/core";
import type { DialTarget } from "../../../ports/transport.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag, optionalText } from "../../parameters.ts";
import { readDocument } from "./document-file.ts";
import { nodeFlag } from "./node-flag.ts";
import { field, text } from "./render-push.ts";
import { reportResults } from "./report-results.ts";
import { type SigningFlags, signingFlags } from "./signing-flags.ts";

interface Flags extends SigningFlags {
  readonly desired?: string;
  readonly node: readonly DialTarget[];
  readonly json: boolean;
}

/** `mvm coordinator plan` */
export const coordinatorPlan: Command<CliContext> = buildCommand<Flags, [], CliContext>({
  docs: {
    brief: "Show what nodes would do next, with nothing changed",
    fullDescription:
      "For a document, signed as a push of it would be, or without --desired for the one in force on each node. What a node plans after its first actions follows from how they end.",
  },
  parameters: {
    flags: {
      desired: optionalText("The document; - for standard input", "file"),
      ...nodeFlag,
      ...signingFlags,
      ...jsonFlag,
    },
  },
  async func({ desired, node, key, expires, generation, json }) {
    const signing =
      desired === undefined
        ? undefined
        : {
            document: await readDocument(this.stdin, desired),
            key: await (await this.signingKeys()).load(key),
            generation,
            lifeMs: expires,
          };
    const fleet = await this.fleet();
    const results = await fleet.each(node, (client) => fleet.plan(client, signing));
    reportResults(this, results, json, renderPlan);
  },
});

function renderPlan(plan: unknown): string {
  const list = (name: string): unknown[] => {
    const value = field(plan, name);
    return Array.isArray(value) ? value : [];
  };
  const actions = list("actions").map(
    (action) => `  ${text(field(action, "kind"))} ${text(field(action, "object"))}`,
  );
  const held = list("held").map(
    (one) =>
      `  held: ${text(field(one, "object"))}: ${text(field(one, "reason"))}: ${text(field(one, "detail"))}`,
  );
  const first = actions.length === 0 ? "nothing to do" : `${actions.length} actions`;
  return [first, ...actions, ...held].join("\n");
}
