import {
  type InstanceAddress,
  type PoolAddress,
  type TenantAddress,
  formatInstance,
  formatPool,
} from "../domain/ids.ts";
import type { QuotaName } from "../domain/quota.ts";
import type { RuntimePolicy } from "../domain/pool.ts";
import { type Held, objectOf } from "../planner/action.ts";
import { type ExplainTarget, explain } from "../planner/explain.ts";
import type { ObservedTenant } from "../planner/observed.ts";
import { usedBy } from "../planner/usage.ts";
import type { AuditEntry } from "../ports/audit.ts";
import type { TenantRecords } from "../ports/store.ts";
import type { NodeContext } from "./context.ts";
import { consoleLogs } from "./instances.ts";
import { observeTenant } from "./observe.ts";
import { planObserved } from "./reconcile.ts";
import { findPool, loadTenant, noInstance } from "./records.ts";

const shownEvents = 10;
const searchedEvents = 2000;
const shownConsoleLines = 15;

/** Why a tenant, pool or instance is as it is, as `--json` shows it. */
export interface ExplainView {
  readonly address: string;
  readonly managed_by: string;
  readonly because: readonly string[];
  /** What the next command that reconciles the tenant would do to it, and what it would hold back. */
  readonly plan: {
    readonly actions: readonly { readonly kind: string; readonly object: string }[];
    readonly held: readonly Held[];
  };
  /** Null for a tenant. */
  readonly runtime_policy: RuntimePolicy | null;
  readonly quotas: readonly {
    readonly quota: QuotaName;
    readonly used: number;
    readonly limit: number;
  }[];
  /** The last lines of the audit log about it or what is in it, oldest first. */
  readonly events: readonly AuditEntry[];
  /** The last lines of an instance's console. */
  readonly console: readonly string[];
}

/** Explains an object with the plan that everything else works by. Changes nothing. @throws NotFoundError */
export async function explainObject(
  context: NodeContext,
  address: TenantAddress | PoolAddress | InstanceAddress,
): Promise<ExplainView> {
  const records = await loadTenant(context, address.tenant);
  const pool = "pool" in address ? findPool(records, address) : undefined;
  const observed = await observeTenant(context, records);
  const target = targetOf(observed, records, address);
  const next = planObserved(context, observed);
  const { because, actions, held } = explain(observed, next, target, context.clock.nowMs());
  const name = nameOf(address);
  return {
    address: name,
    managed_by: (pool ?? records.tenant).managed_by,
    because,
    plan: {
      actions: actions.map((action) => ({ kind: action.kind, object: objectOf(action) })),
      held,
    },
    runtime_policy: pool?.runtime_policy ?? null,
    quotas: quotaUse(records, pool?.pool_id),
    events: await eventsAbout(context, address, name),
    console: "instance" in address ? await consoleLogs(context, address, shownConsoleLines) : [],
  };
}

function targetOf(
  observed: ObservedTenant,
  records: TenantRecords,
  address: TenantAddress | PoolAddress | InstanceAddress,
): ExplainTarget {
  if (!("pool" in address)) return { kind: "tenant" };
  const pool = findPool(records, address);
  if (!("instance" in address)) return { kind: "pool", pool };
  const instance = observed.instances.find(
    ({ record }) => record.pool_id === address.pool && record.instance_id === address.instance,
  );
  if (instance !== undefined) return { kind: "instance", pool, instance };
  throw noInstance(records, address);
}

function nameOf(address: TenantAddress | PoolAddress | InstanceAddress): string {
  if ("instance" in address) return formatInstance(address);
  return "pool" in address ? formatPool(address) : address.tenant;
}

/** What is used of each quota; of the one that counts for each pool, by this pool or by the fullest. */
function quotaUse(records: TenantRecords, poolId: string | undefined): ExplainView["quotas"] {
  const { tenant, pools, instances } = records;
  const counted = poolId === undefined ? pools.map(({ pool_id }) => pool_id) : [poolId];
  const sizes = counted.map((id) => instances.filter(({ pool_id }) => pool_id === id).length);
  const used = { ...usedBy(records), max_instances_per_pool: Math.max(0, ...sizes) };
  return (Object.keys(tenant.quotas) as QuotaName[]).map((quota) => ({
    quota,
    used: used[quota] ?? 0,
    limit: tenant.quotas[quota],
  }));
}

async function eventsAbout(
  context: NodeContext,
  { tenant }: TenantAddress,
  name: string,
): Promise<AuditEntry[]> {
  const entries = (await context.audit.last(tenant, searchedEvents)) ?? [];
  return entries
    .filter(({ object }) => object === name || object.startsWith(`${name}/`))
    .slice(-shownEvents);
}
