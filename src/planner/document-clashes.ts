import { tenantNetwork } from "../domain/address-plan.ts";
import type { DesiredState, DesiredTenant } from "../domain/desired-state.ts";
import type { Pool } from "../domain/pool.ts";
import type { Tenant } from "../domain/tenant.ts";

/** What this node has already, as far as a document can be in its way. */
export interface Claims {
  readonly tenant: Tenant;
  readonly pools: readonly Pool[];
}

/**
 * What a tenant of a document would take from what this node has: a tenant or pool that is managed here,
 * a network that is another tenant's, a network or role that is fixed. Each is one sentence with both
 * names; none means that the document can be had.
 */
export function clashesOf(
  desired: DesiredTenant,
  document: DesiredState,
  claims: readonly Claims[],
): string[] {
  const id = desired.tenant_id;
  const own = claims.find(({ tenant }) => tenant.tenant_id === id);
  return [
    ...(own === undefined ? [] : ownClashes(desired, own)),
    ...claims
      .filter((other) => other !== own && other.tenant.net_id === desired.network.tenant_net_id)
      .filter((other) => !isPruned(other, document))
      .map(({ tenant }) => {
        const { subnet } = tenantNetwork(tenant.net_id);
        return `net id ${tenant.net_id} (${subnet}) of the document's tenant ${id} is that of this node's tenant ${tenant.tenant_id}`;
      }),
  ];
}

function ownClashes(desired: DesiredTenant, { tenant, pools }: Claims): string[] {
  const id = desired.tenant_id;
  if (tenant.managed_by === "local") {
    return [`tenant ${id} of the document and tenant ${id} that is managed on this node are two`];
  }
  const clashes: string[] = [];
  if (tenant.net_id !== desired.network.tenant_net_id) {
    clashes.push(
      `tenant ${id} has net id ${tenant.net_id} on this node, and the document gives it ${desired.network.tenant_net_id}: a network is fixed`,
    );
  }
  for (const wanted of desired.pools) {
    const pool = pools.find(({ pool_id }) => pool_id === wanted.pool_id);
    if (pool === undefined) continue;
    const name = `${id}/${pool.pool_id}`;
    if (pool.managed_by === "local") {
      clashes.push(
        `pool ${name} of the document and pool ${name} that is managed on this node are two`,
      );
    } else if (pool.role !== wanted.role) {
      clashes.push(
        `pool ${name} is a ${pool.role} on this node, and a ${wanted.role} in the document: a role is fixed`,
      );
    }
  }
  return clashes;
}

/** Whether a tenant goes with the document, so that its network is free then. */
function isPruned({ tenant }: Claims, document: DesiredState): boolean {
  return (
    document.prune_unknown_tenants &&
    tenant.managed_by === "document" &&
    !document.tenants.some(({ tenant_id }) => tenant_id === tenant.tenant_id)
  );
}
