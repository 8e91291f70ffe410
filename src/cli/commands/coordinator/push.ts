import { type Command, buildCommand } from "@stricli/core";
import type { DialTarget } from "../../../ports/transport.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag } from "../../parameters.ts";
import { readDocument } from "./document-file.ts";
import { nodeFlag } from "./node-flag.ts";
import { renderProgress, renderPushed, stateOf } from "./render-push.ts";
import { reportResults } from "./report-results.ts";
import { type SigningFlags, signingFlags } from "./signing-flags.ts";

interface Flags extends SigningFlags {
  readonly desired: string;
  readonly node: readonly DialTarget[];
  readonly wait: boolean;
  readonly unsigned: boolean;
  readonly json: boolean;
}

/** `mvm coordinator push` */
export const coordinatorPush: Command<CliContext> = buildCommand<Flags, [], CliContext>({
  docs: {
    brief: "Give nodes a desired-state document",
    fullDescription:
      "Signs it for each node when there is a signing key, and pushes to all nodes side by side, with a result each. A node answers when it has taken the document; with --wait when it has brought it about, and tells meanwhile how far it is. The same document again has the same generation and changes nothing. Exit code 1 when a node that is waited for has not converged.",
  },
  parameters: {
    flags: {
      desired: {
        kind: "parsed",
        parse: String,
        brief: "The document; - for standard input",
        placeholder: "file",
      },
      ...nodeFlag,
      wait: { kind: "boolean", default: false, brief: "Answer when the nodes have converged" },
      unsigned: {
        kind: "boolean",
        default: false,
        withNegated: false,
        brief: "Do not sign, although there is a key; only development nodes take it",
      },
      ...signingFlags,
      ...jsonFlag,
    },
  },
  async func({ desired, node, wait, unsigned, key, expires, generation, json }) {
    const document = await readDocument(this.stdin, desired);
    const privateKey = unsigned ? undefined : await (await this.signingKeys()).load(key);
    if (privateKey === undefined) this.out.note("unsigned: only development nodes take it");
    const fleet = await this.fleet();
    const push = { document, key: privateKey, generation, lifeMs: expires, wait };
    const results = await fleet.each(node, (client, where) =>
      fleet.push(client, push, (progress) => {
        const line = renderProgress(progress);
        if (line !== undefined) this.out.progress(`${where}: ${line}`);
      }),
    );
    reportResults(this, results, json, renderPushed);
    const waitedFor = results.flatMap((result) => (result.ok && wait ? [result.result] : []));
    if (waitedFor.some((result) => stateOf(result) !== "converged")) this.exitWith(1);
  },
});
