import { type Command, buildCommand } from "@stricli/core";
import type { TenantId } from "../../../domain/ids.ts";
import type { CliContext } from "../../context.ts";
import { overrideFlag, tenantArgument } from "../../parameters.ts";

/** `mvm tenant secrets rotate` */
export const tenantSecretsRotate: Command<CliContext> = buildCommand<
  { override?: number },
  [TenantId],
  CliContext
>({
  docs: {
    brief: "Make the generated secrets of a tenant anew",
    fullDescription:
      "Makes new values of all secrets that mvm generated, such as a deployment's access token, and raises the epoch. Instances get them at their next start; `mvm tenant secrets list` shows which holds which epoch.",
  },
  parameters: { positional: tenantArgument, flags: overrideFlag },
  async func({ override }, tenant) {
    const { epoch, secrets, instances } = await (await this.node()).rotateSecrets(tenant, override);
    const names = secrets.filter(({ origin }) => origin === "generated").map(({ name }) => name);
    this.out.data(`${names.join(", ")} of ${tenant} made anew: epoch ${epoch}`);
    const behind = instances.filter(({ current }) => !current);
    if (behind.length > 0) {
      this.out.note(`${behind.length} instances hold an older epoch until their next start:`);
      for (const { address, epoch } of behind) this.out.note(`  ${address}: epoch ${epoch}`);
    }
  },
});
