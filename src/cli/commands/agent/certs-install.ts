import { type Command, buildCommand } from "@stricli/core";
import type { CliContext } from "../../context.ts";
import { jsonFlag, optionalText } from "../../parameters.ts";
import { readInput } from "../../read-input.ts";
import { maxPemBytes } from "./pem.ts";

interface Flags {
  readonly certificate?: string;
  readonly revocations?: string;
  readonly json: boolean;
}

/** `mvm agent certs install` */
export const certsInstall: Command<CliContext> = buildCommand<Flags, [], CliContext>({
  docs: {
    brief: "Install the CA's answer to the node's request, or its revocation list",
    fullDescription:
      "Takes only what is of this node's CA, id and key; else nothing changes. A running agent uses it from its next connection on.",
  },
  parameters: {
    flags: {
      certificate: optionalText("The certificate, as PEM; - for standard input", "file"),
      revocations: optionalText("The CA's revocation list, as PEM", "file"),
      ...jsonFlag,
    },
  },
  async func({ certificate, revocations, json }) {
    const read = async (path: string, what: string): Promise<string> =>
      (await readInput(this.stdin, path, { what, maxBytes: maxPemBytes })).toString("utf8");
    const installed = await (
      await this.certificates()
    ).install(
      {
        certificate:
          certificate === undefined ? undefined : await read(certificate, "the certificate"),
        revocations:
          revocations === undefined ? undefined : await read(revocations, "the revocation list"),
      },
      "local",
    );
    if (json) {
      this.out.json(installed);
      return;
    }
    if (installed.serial !== null) {
      this.out.data(`certificate ${installed.serial} is in use until ${installed.expires_at}`);
    }
    this.out.data(`${installed.revoked} certificates are known to be revoked`);
  },
});
