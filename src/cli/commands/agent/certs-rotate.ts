import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";
import { jsonFlag } from "../../parameters.ts";

/** `mvm agent certs rotate` */
export const certsRotate: Command<CliContext> = buildCommand<{ json: boolean }, [], CliContext>({
  docs: {
    brief: "Replace the node's key and certificate now",
    fullDescription:
      "Issues both anew from the development CA on this node. With a CA elsewhere it prints a signing request for the next key instead, and nothing changes until the answer is installed.",
  },
  parameters: { flags: jsonFlag },
  async func({ json }) {
    const certificates = await this.certificates();
    const { authority } = await certificates.status();
    if (authority === "external") {
      this.out.data((await certificates.request("local")).trim());
      this.out.note(
        "the CA is elsewhere: have it answer this request (mvm coordinator ca issue --request <file>), then mvm agent certs install --certificate <file>",
      );
      return;
    }
    const installed = await certificates.rotate("local");
    if (json) this.out.json(installed);
    else this.out.data(`certificate ${installed.serial} is in use until ${installed.expires_at}`);
  },
});
