import { type Command, buildCommand } from "@stricli/core";
import type { IdentityStatus } from "../../../ports/node-identity.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag } from "../../parameters.ts";

/** `mvm agent certs status` */
export const certsStatus: Command<CliContext> = buildCommand<{ json: boolean }, [], CliContext>({
  docs: {
    brief: "Show the node's certificate, its CA and when it is to be renewed",
    fullDescription: "Exit code 6 when there is no certificate or it has ended.",
  },
  parameters: { flags: jsonFlag },
  async func({ json }) {
    const status = await (await this.certificates()).status();
    if (json) this.out.json(status);
    else this.out.data(render(status));
    if (status.certificate === null || status.certificate.expired) this.exitWith(6);
  },
});

function render({ node_id, authority, certificate, requested, revoked }: IdentityStatus): string {
  const lines = [
    `Node:         ${node_id}`,
    `CA:           ${{ none: "none yet", development: "a development CA of this node's own", external: "elsewhere" }[authority]}`,
    ...(certificate === null
      ? ["Certificate:  none yet"]
      : [
          `Certificate:  ${certificate.serial}`,
          `Valid:        ${certificate.not_before} to ${certificate.expires_at}${certificate.expired ? "  HAS ENDED" : ""}`,
          `Renew from:   ${certificate.renew_at}`,
        ]),
    `Revoked:      ${revoked} certificates are known to be`,
  ];
  if (requested) lines.push("Request:      one waits for its answer");
  return lines.join("\n");
}
