import { type Command, buildCommand } from "@stricli/core";
import type { TenantId } from "../../domain/ids.ts";
import type { CliContext } from "../context.ts";
import { jsonFlag, tenantArgument } from "../parameters.ts";
import { renderDashboard } from "../render-dashboard.ts";

/** `mvm connect` */
export const connect: Command<CliContext> = buildCommand<{ json: boolean }, [TenantId], CliContext>(
  {
    docs: { brief: "Show a deployment's dashboard" },
    parameters: { positional: tenantArgument, flags: jsonFlag },
    async func({ json }, tenant) {
      const shown = await (await this.node()).dashboard(tenant);
      if (json) this.out.json(shown);
      else this.out.data(renderDashboard(shown));
    },
  },
);
