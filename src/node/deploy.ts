import { tenantNetwork } from "../domain/address-plan.ts";
import { ConflictError } from "../domain/errors.ts";
import type { TenantId } from "../domain/ids.ts";
import type { Pool } from "../domain/pool.ts";
import type { Template } from "../domain/templates.ts";
import type { NodeContext } from "./context.ts";
import { makePool } from "./pools.ts";
import { type ReconcileResult, reconcileTenant } from "./reconcile.ts";
import { loadTenant } from "./records.ts";
import { ensureGeneratedSecrets } from "./secrets.ts";
import { makeTenant } from "./tenants.ts";

export interface DeployRequest {
  readonly tenant: TenantId;
  readonly template: Template;
  readonly netId?: number;
  readonly subnet?: string;
  /** Instead of the template's own flake. */
  readonly flakeRef?: string;
}

/** Makes a whole deployment of a template, or goes on with one that was begun, and answers when it converged or cannot. */
export async function deployTemplate(
  context: NodeContext,
  request: DeployRequest,
): Promise<ReconcileResult> {
  const { tenant, template } = request;
  return context.locks.withTenant(tenant, `deploying ${template.name}`, async () => {
    await ensureTenant(context, request);
    for (const pool of template.pools) {
      const { pools } = await loadTenant(context, tenant);
      const existing = pools.find(({ pool_id }) => pool_id === pool.pool_id);
      if (existing !== undefined) {
        refuseOtherFlake(request, existing);
        continue;
      }
      await makePool(context, {
        address: { tenant, pool: pool.pool_id },
        role: pool.role,
        flakeRef: request.flakeRef ?? template.flake_ref,
        profile: pool.profile,
        resources: pool.instance_resources,
        desiredCounts: pool.desired_counts,
        startTimeoutSeconds: pool.start_timeout_seconds,
        gatewayRoutes: pool.gateway_routes,
      });
    }
    await ensureGeneratedSecrets(context, tenant, template.generated_secrets);
    return reconcileTenant(context, tenant);
  });
}

async function ensureTenant(context: NodeContext, request: DeployRequest): Promise<void> {
  const { tenants } = await context.store.load();
  const existing = tenants.find(({ tenant }) => tenant.tenant_id === request.tenant)?.tenant;
  if (existing === undefined) {
    await makeTenant(context, {
      tenant: request.tenant,
      template: request.template.name,
      ...(request.netId === undefined ? {} : { netId: request.netId }),
      ...(request.subnet === undefined ? {} : { subnet: request.subnet }),
    });
    return;
  }
  refuseOtherNetwork(request, existing.net_id);
  if (existing.template !== request.template.name || existing.destroying) {
    throw new ConflictError(
      existing.destroying
        ? `tenant ${request.tenant} is being destroyed`
        : `tenant ${request.tenant} exists and is no ${request.template.name} deployment`,
      { hint: "choose another name, or destroy that tenant first" },
    );
  }
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
