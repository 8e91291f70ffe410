import type { TenantId } from "../domain/ids.ts";
import { rolePriority } from "../domain/roles.ts";
import { findTemplate } from "../domain/templates.ts";
import type { ObservedHealth } from "../planner/observed.ts";
import type { NodeContext } from "./context.ts";
import { observeTenant } from "./observe.ts";
import { loadTenant } from "./records.ts";
import {
  type InstanceView,
  type PoolView,
  type TenantView,
  viewInstance,
  viewPool,
  viewTenant,
} from "./views.ts";

export interface DashboardInstance extends InstanceView {
  readonly health: ObservedHealth;
  readonly health_detail: string;
}

/** All that `mvm connect` shows. */
export interface Dashboard {
  readonly tenant: TenantView;
  readonly pools: readonly PoolView[];
  readonly instances: readonly DashboardInstance[];
  /** Addresses of the workload that answer now. */
  readonly urls: readonly string[];
  /** Secrets that mvm made for the deployment, and the file that holds them. */
  readonly generated_secrets: readonly string[];
  readonly secrets_file: string;
}

/** Gathers a deployment's dashboard; running guests are asked for their health. */
export async function dashboard(context: NodeContext, id: TenantId): Promise<Dashboard> {
  const records = await loadTenant(context, id);
  const observed = await observeTenant(context, records);
  const pools = records.pools.toSorted((a, b) => rolePriority(a.role) - rolePriority(b.role));
  const instances = pools.flatMap((pool) =>
    observed.instances
      .filter(({ record }) => record.pool_id === pool.pool_id)
      .map((instance) => ({
        ...viewInstance(records.tenant, pool.role, instance.record),
        health: instance.health,
        health_detail: instance.healthDetail,
      })),
  );
  const { template } = records.tenant;
  const port = template === null ? undefined : findTemplate(template).workload_port;
  const serving = instances.filter(
    ({ status, health }) => status === "running" && health === "healthy",
  );
  const stored = await context.secrets.load(id);
  return {
    tenant: viewTenant(records),
    pools: pools.map((pool) => viewPool(pool, records.instances)),
    instances,
    urls: port === undefined ? [] : serving.map(({ ip }) => `http://${ip}:${port}/`),
    generated_secrets: Object.keys(stored?.generated ?? {}),
    secrets_file: context.secrets.location(id),
  };
}
