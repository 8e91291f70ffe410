import { describeError, MvmError } from "../domain/errors.ts";
import { instanceNetwork } from "../domain/address-plan.ts";
import { type InstanceAddress, formatInstance } from "../domain/ids.ts";
import { type Instance, addressOf, resourcesOf, statusOf, vmmOf } from "../domain/instance.ts";
import type { DesiredCounts, InstanceResources } from "../domain/pool.ts";
import type { Quotas } from "../domain/quota.ts";
import { type Amounts, usedBy } from "../planner/usage.ts";
import type { AuditHead } from "../ports/audit.ts";
import type { DiskUse, HostUse, ProcessUse, Traffic } from "../ports/meters.ts";
import type { CorruptFile, TenantRecords } from "../ports/store.ts";
import type { HealthReport } from "../protocol/guest-messages.ts";
import { type NodeContext, timestamp } from "./context.ts";
import { loadInstance } from "./records.ts";

const sampleMs = 500;
const agentTimeoutMs = 5000;

/** What an instance takes and how its guest is, as `--json` shows it. */
export interface InstanceStats {
  readonly address: string;
  readonly at: string;
  readonly status: string;
  readonly since: string | null;
  readonly failures: number;
  readonly resources: InstanceResources;
  /** Null without a VMM. `cpu_percent` is of one CPU, over half a second. */
  readonly vmm: (ProcessUse & { readonly pid: number; readonly cpu_percent: number }) | null;
  /** What the guest's agent says; null when it is not running or does not answer. */
  readonly guest: HealthReport | null;
  /** Why there is nothing from the guest. */
  readonly guest_problem: string | null;
  readonly data_disk: DiskUse | null;
  readonly traffic: Traffic | null;
}

export interface TenantStats {
  readonly tenant_id: string;
  /** How many instances there are of each status. */
  readonly instances: Readonly<Record<string, number>>;
  /** What its pools ask for together. */
  readonly wanted: DesiredCounts;
  readonly quotas: Quotas;
  readonly used: Amounts;
  readonly vmms: VmmTotals;
  /** Whether as many run and are warm as are wanted, and nothing is failed or under way. By the records alone: no guest is asked. */
  readonly converged: boolean;
  /** Operations that are under way, or were interrupted. */
  readonly open_operations: number;
  readonly deferred_total: number;
  readonly quota_refusals_total: number;
  /** The latest failure of an instance that is failed now. */
  readonly last_error: {
    readonly object: string;
    readonly at: string;
    readonly cause: string;
  } | null;
  /** To be kept elsewhere: a log that is exchanged as a whole is told by it. */
  readonly audit_head: AuditHead | null;
}

export interface VmmTotals extends ProcessUse {
  readonly count: number;
}

/** What this node takes and does, as `--json` shows it. */
export interface NodeStats {
  readonly at: string;
  readonly host: HostUse;
  readonly vmms: VmmTotals;
  readonly tenants: readonly TenantStats[];
  readonly corrupt: readonly CorruptFile[];
}

/** Measures one instance; its guest is asked when it runs. */
export async function instanceStats(
  context: NodeContext,
  address: InstanceAddress,
): Promise<InstanceStats> {
  const { records, pool, instance } = await loadInstance(context, address);
  const { tap } = instanceNetwork(records.tenant.net_id, instance.net_offset);
  const { state } = instance;
  const [vmm, guest, disk, traffic] = await Promise.all([
    vmmStats(context, instance),
    askGuest(context, instance),
    context.meters.dataDisk(address),
    vmmOf(instance) === undefined ? undefined : context.meters.traffic(tap),
  ]);
  return {
    address: formatInstance(address),
    at: timestamp(context),
    status: statusOf(instance),
    since: "since" in state ? state.since : null,
    failures: instance.failures,
    resources: resourcesOf(instance, pool),
    vmm: vmm ?? null,
    ...guest,
    data_disk: disk ?? null,
    traffic: traffic ?? null,
  };
}

/** Measures the whole node. No guest is asked. */
export async function nodeStats(context: NodeContext): Promise<NodeStats> {
  const { tenants, corrupt } = await context.store.load();
  const measured = await Promise.all(tenants.map((records) => tenantStats(context, records)));
  return {
    at: timestamp(context),
    host: await context.meters.host(),
    vmms: totalOf(measured.map(({ vmms }) => vmms)),
    tenants: measured,
    corrupt,
  };
}

async function tenantStats(context: NodeContext, records: TenantRecords): Promise<TenantStats> {
  const { tenant, pools, instances } = records;
  const head = await context.audit.head(tenant.tenant_id);
  const uses = await Promise.all(instances.map((instance) => processUse(context, instance)));
  const living = uses.filter((use) => use !== undefined);
  const counts: Record<string, number> = {};
  for (const instance of instances) {
    counts[statusOf(instance)] = (counts[statusOf(instance)] ?? 0) + 1;
  }
  const sum = (key: keyof DesiredCounts): number =>
    pools.reduce((total, { desired_counts }) => total + desired_counts[key], 0);
  const wanted = { running: sum("running"), warm: sum("warm"), sleeping: sum("sleeping") };
  const open = instances.filter(({ operation }) => operation !== null).length;
  const missing = Object.entries(wanted).some(([status, count]) => (counts[status] ?? 0) !== count);
  return {
    tenant_id: tenant.tenant_id,
    instances: counts,
    wanted,
    converged: !missing && open === 0 && (counts["failed"] ?? 0) === 0,
    quotas: tenant.quotas,
    used: usedBy(records),
    vmms: totalOf(living.map((use) => ({ ...use, count: 1 }))),
    open_operations: open,
    deferred_total: head?.counts["TransitionDeferred"] ?? 0,
    quota_refusals_total: head?.counts["QuotaRefused"] ?? 0,
    last_error: lastError(instances),
    audit_head: head ?? null,
  };
}

function lastError(instances: readonly Instance[]): TenantStats["last_error"] {
  const failures = instances.flatMap((instance) => {
    const { state } = instance;
    if (state.status !== "failed") return [];
    return [{ object: formatInstance(addressOf(instance)), at: state.since, cause: state.cause }];
  });
  return failures.toSorted((a, b) => (a.at < b.at ? 1 : -1))[0] ?? null;
}

function totalOf(uses: readonly VmmTotals[]): VmmTotals {
  const total = { count: 0, cpu_seconds: 0, resident_mib: 0 };
  for (const use of uses) {
    total.count += use.count;
    total.cpu_seconds += use.cpu_seconds;
    total.resident_mib += use.resident_mib;
  }
  return { ...total, cpu_seconds: Math.round(total.cpu_seconds * 100) / 100 };
}

async function processUse(
  context: NodeContext,
  instance: Instance,
): Promise<ProcessUse | undefined> {
  const vmm = vmmOf(instance);
  if (vmm === undefined) return undefined;
  return context.meters.process({
    id: instance.instance_id,
    runDir: context.drives.folders(addressOf(instance)).runDir,
    pid: vmm.pid,
    startTicks: vmm.start_ticks,
  });
}

async function vmmStats(
  context: NodeContext,
  instance: Instance,
): Promise<InstanceStats["vmm"] | undefined> {
  const before = await processUse(context, instance);
  const beforeMs = context.clock.nowMs();
  if (before === undefined) return undefined;
  await context.clock.sleep(sampleMs, context.signal);
  const after = await processUse(context, instance);
  const seconds = (context.clock.nowMs() - beforeMs) / 1000;
  if (after === undefined || seconds <= 0) return undefined;
  const share = (after.cpu_seconds - before.cpu_seconds) / seconds;
  return { pid: vmmOf(instance)?.pid ?? 0, ...after, cpu_percent: Math.round(share * 1000) / 10 };
}

async function askGuest(
  context: NodeContext,
  instance: Instance,
): Promise<Pick<InstanceStats, "guest" | "guest_problem">> {
  const { state, operation } = instance;
  if (state.status !== "running" || operation !== null) {
    return { guest: null, guest_problem: "a guest answers only while it runs" };
  }
  const process = {
    id: instance.instance_id,
    runDir: context.drives.folders(addressOf(instance)).runDir,
    pid: state.vmm.pid,
    startTicks: state.vmm.start_ticks,
  };
  try {
    const session = await context.guestLink.open(process, agentTimeoutMs, context.signal);
    try {
      return { guest: await session.health(), guest_problem: null };
    } finally {
      session.close();
    }
  } catch (error) {
    if (!(error instanceof MvmError) || context.signal.aborted) throw error;
    return { guest: null, guest_problem: describeError(error) };
  }
}
