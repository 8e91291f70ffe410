import { tenantNetwork } from "../domain/address-plan.ts";
import { ConflictError } from "../domain/errors.ts";
import type { Manifest, ManifestPool } from "../domain/manifest.ts";
import type { Pool } from "../domain/pool.ts";
import type { Quotas } from "../domain/quota.ts";
import { rolePriority } from "../domain/roles.ts";
import type { Tenant } from "../domain/tenant.ts";
import type { TenantRecords } from "../ports/store.ts";
import { changesBetween } from "./changes.ts";
import type { NodeContext } from "./context.ts";
import { given } from "./given.ts";
import { createPool, scalePool } from "./pools.ts";
import { type ReconcileResult, reconcileTenant } from "./reconcile.ts";
import { setSecrets } from "./secrets.ts";
import { type TenantRequest, createTenant, previewTenant, tenantIsMade } from "./tenants.ts";
import { updatePool, updateTenant } from "./update.ts";

export interface ManifestRequest {
  readonly manifest: Manifest;
  /** Undefined leaves the tenant's secrets as they are. */
  readonly secrets: Readonly<Record<string, string>> | undefined;
  /** Only says what would change. */
  readonly dryRun: boolean;
}

export interface ManifestResult {
  /** What differed, a line each, such as `myapp/web: mem_mib: 512 → 1024`. */
  readonly changes: readonly string[];
  /** Undefined in a preview. */
  readonly reconciled: ReconcileResult | undefined;
}

/**
 * Makes a deployment what a manifest says. Each step is done only where something differs, and again
 * by whoever runs it next should it die in between. Pools that the manifest does not name stay.
 * @throws ConflictError when it contradicts what cannot be changed: network, roles, routes.
 */
export async function applyManifest(
  context: NodeContext,
  request: ManifestRequest,
): Promise<ManifestResult> {
  const { manifest, dryRun } = request;
  const tenant = manifest.tenant_id;
  const { tenants } = await context.store.load();
  const records = tenants.find((each) => each.tenant.tenant_id === tenant);
  if (records !== undefined) refuseFixed(records, manifest);
  const changes: string[] = [];
  await applyTenant(context, request, records?.tenant, changes);
  // Before the pools: an instance has on its drive what there is when it starts.
  await applySecrets(context, request, changes);
  for (const pool of manifest.pools.toSorted(byPriority)) {
    const existing = records?.pools.find(({ pool_id }) => pool_id === pool.pool_id);
    await applyPool(context, request, pool, existing, changes);
  }
  if (dryRun) return { changes, reconciled: undefined };
  const reconciled = await context.locks.withTenant(tenant, "deploying a manifest", () =>
    reconcileTenant(context, tenant),
  );
  return { changes, reconciled };
}

/** The network that a manifest asks for, in the words of a request. */
export function networkOf({ network }: Manifest): Pick<TenantRequest, "netId" | "subnet"> {
  return given({ netId: network?.tenant_net_id, subnet: network?.ipv4_subnet });
}

function byPriority(a: ManifestPool, b: ManifestPool): number {
  return rolePriority(a.role) - rolePriority(b.role);
}

/** Names all that would have to be destroyed and made again, before anything is changed. */
export function refuseFixed({ tenant, pools }: TenantRecords, manifest: Manifest): void {
  const fixed: string[] = [];
  const { subnet } = tenantNetwork(tenant.net_id);
  const { tenant_net_id = tenant.net_id, ipv4_subnet = subnet } = manifest.network ?? {};
  if (tenant_net_id !== tenant.net_id || ipv4_subnet !== subnet) {
    fixed.push(`its network is net id ${tenant.net_id}, subnet ${subnet}`);
  }
  for (const pool of manifest.pools) {
    const existing = pools.find(({ pool_id }) => pool_id === pool.pool_id);
    if (existing === undefined) continue;
    if (existing.role !== pool.role) fixed.push(`pool ${pool.pool_id} is a ${existing.role}`);
    const routes = pool.gateway_routes ?? existing.gateway_routes;
    if (
      JSON.stringify(routes.map(routeFields)) !==
      JSON.stringify(existing.gateway_routes.map(routeFields))
    ) {
      fixed.push(
        `pool ${pool.pool_id} has other routes, and those of a pool cannot be changed yet`,
      );
    }
  }
  if (tenant.destroying) fixed.push("it is being destroyed");
  if (fixed.length === 0) return;
  throw new ConflictError(`tenant ${tenant.tenant_id} exists: ${fixed.join("; ")}`, {
    hint: "say the same in the manifest, or destroy what is to be made anew first",
  });
}

function routeFields(route: Pool["gateway_routes"][number]): unknown {
  return [route.name, route.listen_port, route.pool_id, route.target_port];
}

async function applyTenant(
  context: NodeContext,
  { manifest, dryRun }: ManifestRequest,
  existing: Tenant | undefined,
  changes: string[],
): Promise<void> {
  const tenant = manifest.tenant_id;
  const quotas = given<Quotas>(manifest.quotas ?? {});
  const update = { quotas, ...given({ pinned: manifest.pinned }) };
  if (existing === undefined) {
    const request = { tenant, quotas, ...networkOf(manifest) };
    if (dryRun) {
      changes.push(await previewTenant(context, request));
      return;
    }
    const { net_id } = await createTenant(context, request);
    changes.push(tenantIsMade(tenant, net_id));
  }
  const differences = await updateTenant(context, tenant, update, { dryRun });
  if (existing !== undefined) changes.push(...differences.map((line) => `${tenant}: ${line}`));
}

/** The line of a preview for a pool that is not there yet. */
export function poolIsMade(
  object: string,
  pool: Pick<Pool, "role" | "flake_ref" | "instance_resources" | "desired_counts">,
): string {
  const { vcpus, mem_mib, data_disk_mib } = pool.instance_resources;
  const { running, warm, sleeping } = pool.desired_counts;
  const form = `${pool.role} of ${pool.flake_ref}, ${vcpus} vCPUs, ${mem_mib} MiB, data disk ${data_disk_mib} MiB`;
  return `${object}: pool is made: ${form}; running ${running}, warm ${warm}, sleeping ${sleeping}`;
}

async function applyPool(
  context: NodeContext,
  { manifest, dryRun }: ManifestRequest,
  pool: ManifestPool,
  existing: Pool | undefined,
  changes: string[],
): Promise<void> {
  const address = { tenant: manifest.tenant_id, pool: pool.pool_id };
  const object = `${address.tenant}/${address.pool}`;
  const rest = given({
    runtimePolicy: pool.runtime_policy === undefined ? undefined : given(pool.runtime_policy),
    egress: pool.egress,
    secretScopes: pool.secret_scopes,
    pinned: pool.pinned,
    critical: pool.critical,
    startTimeoutSeconds: pool.start_timeout_seconds,
  });
  if (existing === undefined) {
    changes.push(poolIsMade(object, pool));
    if (dryRun) return;
    await createPool(context, {
      address,
      role: pool.role,
      flakeRef: pool.flake_ref,
      profile: pool.profile,
      resources: pool.instance_resources,
      ...given({
        startTimeoutSeconds: pool.start_timeout_seconds,
        gatewayRoutes: pool.gateway_routes,
        egress: pool.egress,
        secretScopes: pool.secret_scopes,
      }),
    });
    await updatePool(context, address, rest, { dryRun });
  } else {
    const update = {
      ...rest,
      flakeRef: pool.flake_ref,
      profile: pool.profile,
      resources: pool.instance_resources,
    };
    const differences = await updatePool(context, address, update, { dryRun });
    changes.push(...differences.map((line) => `${object}: ${line}`));
  }
  const counts = changesBetween(
    existing?.desired_counts ?? { running: 0, warm: 0, sleeping: 0 },
    pool.desired_counts,
  );
  if (counts.length === 0) return;
  if (existing !== undefined) changes.push(...counts.map((line) => `${object}: ${line}`));
  if (!dryRun) await scalePool(context, address, pool.desired_counts);
}

async function applySecrets(
  context: NodeContext,
  { manifest, secrets, dryRun }: ManifestRequest,
  changes: string[],
): Promise<void> {
  if (secrets === undefined) return;
  const tenant = manifest.tenant_id;
  const stored = (await context.secrets.load(tenant))?.values ?? {};
  const isSame =
    Object.keys(stored).length === Object.keys(secrets).length &&
    Object.entries(secrets).every(([name, value]) => stored[name] === value);
  if (isSame) return;
  changes.push(`${tenant}: secrets are replaced (${Object.keys(secrets).length} names)`);
  if (!dryRun) await setSecrets(context, tenant, secrets);
}
