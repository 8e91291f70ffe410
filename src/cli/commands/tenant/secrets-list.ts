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
  docs: {
    brief: "List a tenant's secrets by name and age, never by value",
    fullDescription:
      "Shows each name and when its value last changed, the epoch of the set, and which epoch each running or paused instance holds.",
  },
  parameters: { positional: tenantArgument, flags: jsonFlag },
  async func({ json }, tenant) {
    const view = await (await this.node()).secrets(tenant);
    if (json) {
      this.out.json(view);
      return;
    }
    const nowMs = Date.now();
    const rows = view.secrets.map(({ name, origin, changed_at }) => [
      name,
      origin,
      age(changed_at, nowMs),
    ]);
    this.out.data(table(["NAME", "ORIGIN", "AGE"], rows));
    this.out.data(`\nepoch ${view.epoch}`);
    if (view.instances.length === 0) return;
    const held = view.instances.map(({ address, status, epoch, current }) => [
      address,
      status,
      current ? String(epoch) : `${epoch} (behind until its next start)`,
    ]);
    this.out.data(`\n${table(["INSTANCE", "STATUS", "EPOCH"], held)}`);
  },
});
