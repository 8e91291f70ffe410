import { instanceNetwork, tenantNetwork } from "../domain/address-plan.ts";
import { type Instance, resourcesOf } from "../domain/instance.ts";
import type { Pool } from "../domain/pool.ts";
import { integrationUid } from "../domain/secret-scopes.ts";
import type { Tenant } from "../domain/tenant.ts";
import type { GuestConfig } from "../protocol/guest-config.ts";

/** What the config drive of an instance says. Nothing secret. */
export function guestConfigOf(tenant: Tenant, pool: Pool, instance: Instance): GuestConfig {
  return {
    schema_version: 1,
    tenant_id: tenant.tenant_id,
    pool_id: pool.pool_id,
    instance_id: instance.instance_id,
    role: pool.role,
    guest_ip: instanceNetwork(tenant.net_id, instance.net_offset).ip,
    gateway_ip: tenantNetwork(tenant.net_id).gatewayIp,
    resources: resourcesOf(instance, pool),
    integrations: pool.secret_scopes.map(({ integration }) => ({
      name: integration,
      uid: integrationUid(integration),
    })),
    gateway_routes: pool.gateway_routes.map((route) => ({
      name: route.name,
      listen_port: route.listen_port,
      target_host: `${route.pool_id}.mvm`,
      target_port: route.target_port,
    })),
  };
}
