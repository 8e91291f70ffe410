import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";
import { optionalText } from "../../parameters.ts";
import { readInput } from "../../read-input.ts";
import { maxPemBytes } from "./pem.ts";

/** `mvm agent certs init` */
export const certsInit: Command<CliContext> = buildCommand<{ ca?: string }, [], CliContext>({
  docs: {
    brief: "Make what is missing of this node's identity",
    fullDescription:
      "Without --ca a development CA of this node's own and a certificate of it; with --ca a key and a signing request for that CA to answer. What is there is never overwritten.",
  },
  parameters: { flags: { ca: optionalText("Certificate of the CA, as PEM", "file") } },
  async func({ ca }) {
    const pem =
      ca === undefined
        ? undefined
        : await readInput(this.stdin, ca, { what: "the CA", maxBytes: maxPemBytes });
    const made = await (await this.certificates()).init(pem?.toString("utf8"));
    for (const line of made) this.out.data(`made: ${line}`);
    if (made.length === 0) this.out.data("nothing was missing");
  },
});
