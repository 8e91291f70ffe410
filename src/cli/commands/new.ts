import { type Command, buildCommand } from "@stricli/core";
import { type TenantId, parseTenantId } from "../../domain/ids.ts";
import { findTemplate } from "../../domain/templates.ts";
import type { CliContext } from "../context.ts";
import { networkFlags } from "../parameters.ts";
import { renderDashboard } from "../render-dashboard.ts";
import { reportReconcile } from "../render-reconcile.ts";

interface Flags {
  readonly netId?: number;
  readonly subnet?: string;
  readonly flake?: string;
}

/** `mvm new` */
export const newDeployment: Command<CliContext> = buildCommand<
  Flags,
  [string, TenantId],
  CliContext
>({
  docs: {
    brief: "Make a whole deployment from a template",
    fullDescription:
      "Makes tenant, gateway and workers, builds their images and brings them up, and answers when they are healthy or says which is not and why. Run again, it goes on from where it stopped.",
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [
        { brief: "Template: openclaw", parse: String, placeholder: "template" },
        { brief: "Name of the deployment", parse: parseTenantId, placeholder: "name" },
      ],
    },
    flags: {
      ...networkFlags,
      flake: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: "Build from this flake instead of the template's own",
        placeholder: "ref",
      },
    },
  },
  async func({ netId, subnet, flake }, templateName, tenant) {
    const template = findTemplate(templateName);
    const node = await this.node();
    const result = await node.deploy({
      tenant,
      template,
      ...(netId === undefined ? {} : { netId }),
      ...(subnet === undefined ? {} : { subnet }),
      ...(flake === undefined ? {} : { flakeRef: flake }),
    });
    this.out.data(renderDashboard(await node.dashboard(tenant)));
    reportReconcile(this, result);
  },
});
