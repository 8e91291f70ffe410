import { type Command, buildCommand } from "@stricli/core";
import type { DialTarget } from "../../../ports/transport.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag } from "../../parameters.ts";
import { optionalNodeFlag } from "./node-flag.ts";
import { reportResults } from "./report-results.ts";

interface Flags {
  readonly node?: readonly DialTarget[];
  readonly json: boolean;
}

/** `mvm coordinator ca revoke` */
export const caRevoke: Command<CliContext> = buildCommand<Flags, [string], CliContext>({
  docs: {
    brief: "Take certificates back, and tell nodes",
    fullDescription:
      "Takes a serial number, or an id and with it all its certificates. Nodes given with --node have the new list at once; others get it at their next renewal, or with: mvm agent certs install --revocations. Run it again for nodes that could not be reached.",
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [{ brief: "Serial number or id", parse: String, placeholder: "serial|id" }],
    },
    flags: { ...optionalNodeFlag, ...jsonFlag },
  },
  async func({ node, json }, what) {
    const authority = await this.authority();
    const revoked = await authority.revoke(what, Date.now());
    if (node === undefined || node.length === 0) {
      if (json) this.out.json({ revoked });
      else this.out.data((await authority.revocations()).trim());
    }
    this.out.note(
      revoked.length === 0
        ? `${what} was revoked before`
        : `revoked: ${revoked.map(({ serial, role, id }) => `${serial} (${role} ${id})`).join(", ")}`,
    );
    if (node === undefined || node.length === 0) return;
    const revocations = await authority.revocations();
    const fleet = await this.fleet();
    const results = await fleet.each(node, (client) =>
      client.call("CertificateInstall", { revocations }, { signal: this.signal }),
    );
    reportResults(this, results, json, () => "has the new list");
  },
});
