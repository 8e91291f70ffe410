import { type Command, buildCommand } from "@stricli/core";
import { UsageError } from "../../domain/errors.ts";
import { type TenantId, parseTenantId } from "../../domain/ids.ts";
import { type Template, findTemplate } from "../../domain/templates.ts";
import type { CliContext } from "../context.ts";
import type { ManifestFile } from "../manifest-file.ts";
import { dryRunFlag, networkFlags, optionalText } from "../parameters.ts";
import { reportChanges } from "../render-changes.ts";
import { renderDashboard } from "../render-dashboard.ts";
import { reportReconcile } from "../render-reconcile.ts";

interface Flags {
  readonly netId?: number;
  readonly subnet?: string;
  readonly flake?: string;
  readonly config?: string;
  readonly dryRun: boolean;
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
      "Makes tenant, gateway and workers, builds their images and brings them up, and answers when they are healthy or says which is not and why. Run again, it goes on from where it stopped. A manifest given with --config says more than the template: quotas, secrets, and pools in place of the template's or beside them.",
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
      config: optionalText(
        "A deploy manifest of this tenant, which the template completes",
        "file",
      ),
      ...dryRunFlag,
    },
  },
  async func({ netId, subnet, flake, config: path, dryRun }, templateName, tenant) {
    const template = findTemplate(templateName);
    const config = path === undefined ? undefined : await readConfig(path, template, tenant);
    if (config?.manifest.network !== undefined && (netId ?? subnet) !== undefined) {
      throw new UsageError(`${path} names the network too`, {
        hint: "leave --net-id and --subnet out, or [network] in the manifest",
      });
    }
    const node = await this.node();
    const { changes, reconciled } = await node.deploy({
      tenant,
      template,
      ...(netId === undefined ? {} : { netId }),
      ...(subnet === undefined ? {} : { subnet }),
      ...(flake === undefined ? {} : { flakeRef: flake }),
      config,
      dryRun,
    });
    if (reconciled === undefined) {
      reportChanges(this, { object: tenant, changes, dryRun, json: false });
      return;
    }
    this.out.data(renderDashboard(await node.dashboard(tenant)));
    reportReconcile(this, reconciled);
  },
});

async function readConfig(
  path: string,
  template: Template,
  tenant: TenantId,
): Promise<ManifestFile> {
  // Loaded when there is one: it brings schemas and a parser along.
  const { readManifest } = await import("../manifest-file.ts");
  const config = await readManifest(
    path,
    template.pools.map(({ pool_id }) => pool_id),
  );
  const { tenant_id } = config.manifest;
  if (tenant_id === tenant) return config;
  throw new UsageError(`${path} is of tenant ${tenant_id}, not of ${tenant}`, {
    hint: `write tenant_id = "${tenant}" into it, or name the deployment ${tenant_id}`,
  });
}
