import { type Command, buildCommand } from "@stricli/core";
import type { TenantId } from "../../../domain/ids.ts";
import type { DialTarget } from "../../../ports/transport.ts";
import type { CliContext } from "../../context.ts";
import { fromFileFlag, jsonFlag, tenantArgument } from "../../parameters.ts";
import { nodeFlag } from "./node-flag.ts";
import { reportResults } from "./report-results.ts";

interface Flags {
  readonly fromFile: string;
  readonly node: readonly DialTarget[];
  readonly json: boolean;
}

/** `mvm coordinator secrets push` */
export const coordinatorSecretsPush: Command<CliContext> = buildCommand<
  Flags,
  [TenantId],
  CliContext
>({
  docs: {
    brief: "Replace the secrets of a tenant on nodes",
    fullDescription:
      "A document never holds secrets: they go over the same verified connections, and each node keeps its own. Replaces the whole set with a flat JSON object of strings.",
  },
  parameters: {
    positional: tenantArgument,
    flags: {
      ...fromFileFlag("JSON file with the secrets; - for standard input"),
      ...nodeFlag,
      ...jsonFlag,
    },
  },
  async func({ fromFile, node, json }, tenant) {
    const { readSecretsFile } = await import("../../secrets-file.ts");
    const secrets = await readSecretsFile(fromFile, this.stdin);
    const fleet = await this.fleet();
    const results = await fleet.each(node, (client) =>
      client.call("SecretsSet", { tenant_id: tenant, secrets }, { signal: this.signal }),
    );
    reportResults(this, results, json, () => `${Object.keys(secrets).length} secrets set`);
  },
});
