import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";

/** `mvm agent certs request` */
export const certsRequest: Command<CliContext> = buildCommand<object, [], CliContext>({
  docs: {
    brief: "Make the node's next key and print a signing request for it",
    fullDescription:
      "The present key and certificate stay in use until the answer is installed. Asked again, it prints a request for the same next key.",
  },
  parameters: {},
  async func() {
    this.out.data((await (await this.certificates()).request("local")).trim());
    this.out.note(
      "next: mvm coordinator ca issue --request <file> where the CA is; then mvm agent certs install --certificate <file>",
    );
  },
});
