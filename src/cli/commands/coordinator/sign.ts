import { type Command, buildCommand } from "@stricli/core";
import { HostLacksError, UsageError } from "../../../domain/errors.ts";
import type { CliContext } from "../../context.ts";
import { readDocument } from "./document-file.ts";
import { type SigningFlags, signingFlags } from "./signing-flags.ts";

interface Flags extends SigningFlags {
  readonly desired: string;
  readonly nodeId: string;
}

/** `mvm coordinator sign` */
export const coordinatorSign: Command<CliContext> = buildCommand<Flags, [], CliContext>({
  docs: {
    brief: "Sign a desired-state document for one node, and print the signed form",
    fullDescription:
      "For nodes that are not pushed to: mvm agent serve --desired, mvm agent reconcile --desired. `push` signs by itself.",
  },
  parameters: {
    flags: {
      desired: {
        kind: "parsed",
        parse: String,
        brief: "The document; - for standard input",
        placeholder: "file",
      },
      nodeId: { kind: "parsed", parse: String, brief: "Id of the node", placeholder: "id" },
      ...signingFlags,
    },
  },
  async func({ desired, nodeId, key, expires, generation }) {
    if (generation === undefined) {
      throw new UsageError("a document that is signed without asking its node needs --generation", {
        hint: "one above the generation that `mvm coordinator status` shows for the node",
      });
    }
    const document = await readDocument(this.stdin, desired);
    const privateKey = await (await this.signingKeys()).load(key);
    if (privateKey === undefined) {
      throw new HostLacksError("there is no signing key", { hint: "mvm coordinator keygen" });
    }
    const { signDesired } = await import("../../../protocol/signed-desired.ts");
    const expires_at = new Date(Date.now() + expires).toISOString();
    this.out.json(signDesired(privateKey, { node_id: nodeId, generation, expires_at }, document));
  },
});
