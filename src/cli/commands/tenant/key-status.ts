import { type Command, buildCommand } from "@stricli/core";
import type { TenantId } from "../../../domain/ids.ts";
import type { TenantKeyStatus } from "../../../ports/tenant-keys.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag, tenantArgument } from "../../parameters.ts";

/** `mvm tenant key status` */
export const tenantKeyStatus: Command<CliContext> = buildCommand<
  { json: boolean },
  [TenantId],
  CliContext
>({
  docs: {
    brief: "Tell whether a tenant has its key, never the key",
    fullDescription:
      "Shows a fingerprint, by which a copy can be compared, and when the key was put there. Exit code 1 when the key cannot be used.",
  },
  parameters: { positional: tenantArgument, flags: jsonFlag },
  async func({ json }, tenant) {
    const status = await (await this.node()).tenantKey(tenant);
    if (json) this.out.json(status);
    else this.out.data(describeKey(tenant, status));
    if (status.problem !== null) this.exitWith(1);
  },
});

/** One line about a key that says nothing of it. */
export function describeKey(tenant: TenantId, status: TenantKeyStatus): string {
  if (!status.present) {
    return `tenant ${tenant} has no key\n  next: mvm tenant key generate ${tenant}`;
  }
  if (status.problem !== null)
    return `the key of tenant ${tenant} cannot be used: ${status.problem}`;
  return `tenant ${tenant} has a key, fingerprint ${status.fingerprint}, since ${status.changed_at}`;
}
