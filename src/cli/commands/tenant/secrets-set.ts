import { type Command, buildCommand } from "@stricli/core";
import type { TenantId } from "../../../domain/ids.ts";
import type { CliContext } from "../../context.ts";
import { fromFileFlag, overrideFlag, tenantArgument } from "../../parameters.ts";

/** `mvm tenant secrets set` */
export const tenantSecretsSet: Command<CliContext> = buildCommand<
  { fromFile: string; override?: number },
  [TenantId],
  CliContext
>({
  docs: {
    brief: "Replace the secrets of a tenant",
    fullDescription:
      "Replaces the whole set at once with a flat JSON object of strings. Instances get it at their next start.",
  },
  parameters: {
    positional: tenantArgument,
    flags: {
      ...fromFileFlag("JSON file with the secrets; - for standard input"),
      ...overrideFlag,
    },
  },
  async func({ fromFile, override }, tenant) {
    const { readSecretsFile } = await import("../../secrets-file.ts");
    const values = await readSecretsFile(fromFile, this.stdin);
    await (await this.node()).setSecrets(tenant, values, override);
    this.out.data(`${Object.keys(values).length} secrets of ${tenant} set`);
  },
});
