import { type Command, buildCommand } from "@stricli/core";
import type { TenantId } from "../../../domain/ids.ts";
import type { CliContext } from "../../context.ts";
import { age, table } from "../../output.ts";
import { jsonFlag, tenantArgument } from "../../parameters.ts";

/** `mvm tenant secrets list` */
export const tenantSecretsList: Command<CliContext> = buildCommand<
  { json: boolean },
  [TenantId],
  CliContext
>({
  docs: { brief: "List names and ages of a tenant's secrets, never values" },
  parameters: { positional: tenantArgument, flags: jsonFlag },
  async func({ json }, tenant) {
    const secrets = await (await this.node()).secrets(tenant);
    if (json) {
      this.out.json(secrets);
      return;
    }
    const rows = secrets.map(({ name, origin, updated_at }) => [
      name,
      origin,
      age(updated_at, Date.now()),
    ]);
    this.out.data(table(["NAME", "ORIGIN", "AGE"], rows));
  },
});
