import { type Command, buildCommand } from "@stricli/core";
import type { DialTarget } from "../../../ports/transport.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag, wholeNumber } from "../../parameters.ts";
import { pause } from "../../../ports/pause.ts";
import { nodeFlag } from "./node-flag.ts";
import { reportResults } from "./report-results.ts";

const hourMs = 3_600_000;

interface Flags {
  readonly node: readonly DialTarget[];
  readonly hours: number;
  readonly watch: boolean;
  readonly json: boolean;
}

/** `mvm coordinator ca renew` */
export const caRenew: Command<CliContext> = buildCommand<Flags, [], CliContext>({
  docs: {
    brief: "Renew the certificates of nodes",
    fullDescription:
      "Each node makes its next key, this CA answers its request, and the node goes over to it without dropping a connection. With --watch again and again, each time half of the life is over.",
  },
  parameters: {
    flags: {
      ...nodeFlag,
      hours: {
        kind: "parsed",
        parse: wholeNumber(1, 24 * 365),
        default: "24",
        brief: "How long the new certificates are good for",
      },
      watch: { kind: "boolean", default: false, brief: "Go on until Ctrl-C" },
      ...jsonFlag,
    },
  },
  async func({ node, hours, watch, json }) {
    const authority = await this.authority();
    const fleet = await this.fleet();
    for (;;) {
      const results = await fleet.each(node, (client) =>
        fleet.renew(client, authority, hours * hourMs),
      );
      reportResults(this, results, json, (result) => {
        const { serial, expires_at } = result as { serial?: unknown; expires_at?: unknown };
        return `certificate ${String(serial)} until ${String(expires_at)}`;
      });
      if (!watch || this.signal.aborted) return;
      await pause((hours * hourMs) / 2, this.signal);
      if (this.signal.aborted) return;
    }
  },
});
