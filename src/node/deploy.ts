import { tenantNetwork } from "../domain/address-plan.ts";
import { ConflictError } from "../domain/errors.ts";
import { type TenantId, formatPool } from "../domain/ids.ts";
import type { Pool } from "../domain/pool.ts";
import type { Template, TemplatePool } from "../domain/templates.ts";
import type { TenantRecords } from "../ports/store.ts";
import type { NodeContext } from "./context.ts";
import { given } from "./given.ts";
import {
  type ManifestRequest,
  type ManifestResult,
  applyManifest,
  networkOf,
  poolIsMade,
  refuseFixed,
} from "./manifest.ts";
import { makePool } from "./pools.ts";
import { reconcileTenant } from "./reconcile.ts";
import { ensureGeneratedSecrets, missingGenerated } from "./secrets.ts";
import { type TenantRequest, makeTenant, previewTenant, tenantIsMade } from "./tenants.ts";

export interface DeployRequest {
  readonly tenant: TenantId;
  readonly template: Template;
  readonly netId?: number;
  readonly subnet?: string;
  /** Instead of the template's own flake. */
  readonly flakeRef?: string;
  /** Of the same tenant. A pool that it names is as it says, and not as the template says. */
  readonly config?: Pick<ManifestRequest, "manifest" | "secrets"> | undefined;
  /** Only says what would be made or changed. */
  readonly dryRun?: boolean;
}

/** Makes a whole deployment of a template, or goes on with one that was begun, and answers when it converged or cannot. */
export async function deployTemplate(
  context: NodeContext,
  request: DeployRequest,
): Promise<ManifestResult> {
  const { tenant, template, dryRun = false } = request;
  const config = withNetwork(request);
  const wanted = { ...request, config };
  const changes: string[] = [];
  if (dryRun) await applyTemplate(context, wanted, changes);
  else {
    const reconciled = await context.locks.withTenant(
      tenant,
      `deploying ${template.name}`,
      async () => {
        await applyTemplate(context, wanted, changes);
        return config === undefined ? reconcileTenant(context, tenant) : undefined;
      },
    );
    if (reconciled !== undefined) return { changes, reconciled };
  }
  if (config === undefined) return { changes, reconciled: undefined };
  const applied = await applyManifest(context, { ...config, dryRun });
  // In a preview the tenant is not there yet, and both say that it is made.
  return { ...applied, changes: [...new Set([...changes, ...applied.changes])] };
}

/** Makes what is missing of a template; in a preview only says so. The caller holds the tenant's lock, or previews. */
async function applyTemplate(
  context: NodeContext,
  request: DeployRequest,
  changes: string[],
): Promise<void> {
  const { tenant, template, config, dryRun } = request;
  const { tenants } = await context.store.load();
  const records = tenants.find((each) => each.tenant.tenant_id === tenant);
  const named = new Set(config?.manifest.pools.map(({ pool_id }) => pool_id));
  const pools = template.pools.filter(({ pool_id }) => !named.has(pool_id));
  if (records !== undefined) refuseOther(request, records, pools);

  if (records === undefined) {
    const wanted = tenantRequest(request);
    if (dryRun) changes.push(await previewTenant(context, wanted));
    else changes.push(tenantIsMade(tenant, (await makeTenant(context, wanted)).net_id));
  }
  for (const pool of pools) {
    if (records?.pools.some(({ pool_id }) => pool_id === pool.pool_id)) continue;
    const address = { tenant, pool: pool.pool_id };
    const flakeRef = request.flakeRef ?? template.flake_ref;
    changes.push(poolIsMade(formatPool(address), { ...pool, flake_ref: flakeRef }));
    if (dryRun) continue;
    await makePool(context, {
      address,
      role: pool.role,
      flakeRef,
      profile: pool.profile,
      resources: pool.instance_resources,
      desiredCounts: pool.desired_counts,
      startTimeoutSeconds: pool.start_timeout_seconds,
      gatewayRoutes: pool.gateway_routes,
    });
  }
  const missing = await missingGenerated(context, tenant, template.generated_secrets);
  if (missing.length > 0) changes.push(`${tenant}: secrets are generated: ${missing.join(", ")}`);
  if (!dryRun) await ensureGeneratedSecrets(context, tenant, template.generated_secrets);
}

/** The manifest, with the network that was asked for beside it. */
function withNetwork({ config, netId, subnet }: DeployRequest): DeployRequest["config"] {
  if (config === undefined || (netId ?? subnet) === undefined) return config;
  const network = { tenant_net_id: netId, ipv4_subnet: subnet };
  return { ...config, manifest: { ...config.manifest, network } };
}

function tenantRequest({ tenant, template, netId, subnet, config }: DeployRequest): TenantRequest {
  return {
    tenant,
    template: template.name,
    quotas: given(config?.manifest.quotas ?? {}),
    ...(config === undefined ? given({ netId, subnet }) : networkOf(config.manifest)),
  };
}

/** Names what cannot go on as asked, before anything is changed. */
function refuseOther(
  request: DeployRequest,
  records: TenantRecords,
  pools: readonly TemplatePool[],
): void {
  const { tenant, template, config } = request;
  refuseOtherNetwork(request, records.tenant.net_id);
  if (records.tenant.template !== template.name || records.tenant.destroying) {
    throw new ConflictError(
      records.tenant.destroying
        ? `tenant ${tenant} is being destroyed`
        : `tenant ${tenant} exists and is no ${template.name} deployment`,
      { hint: "choose another name, or destroy that tenant first" },
    );
  }
  for (const pool of records.pools) {
    if (pools.some(({ pool_id }) => pool_id === pool.pool_id)) refuseOtherFlake(request, pool);
  }
  if (config !== undefined) refuseFixed(records, config.manifest);
}

function refuseOtherFlake(request: DeployRequest, pool: Pool): void {
  if (request.flakeRef === undefined || request.flakeRef === pool.flake_ref) return;
  throw new ConflictError(
    `pool ${pool.tenant_id}/${pool.pool_id} exists and is built from ${pool.flake_ref}`,
    { hint: "leave --flake out to go on with it, or choose another name" },
  );
}

/** A deployment that exists keeps its network: flags that ask for another one are not silently left out. */
function refuseOtherNetwork(request: DeployRequest, netId: number): void {
  const { subnet } = tenantNetwork(netId);
  if ((request.netId ?? netId) === netId && (request.subnet ?? subnet) === subnet) return;
  throw new ConflictError(
    `tenant ${request.tenant} exists with net id ${netId}, subnet ${subnet}`,
    {
      hint: "leave --net-id and --subnet out to go on with it",
    },
  );
}
