import type { ProductionView } from "../../domain/production.ts";
import type { AgentReading, MetricSample } from "../../ports/agent-metrics.ts";
import type { NodeStats, TenantStats } from "../stats.ts";
import type { AgentState } from "./agent.ts";

const mib = 1024 * 1024;
const loopStates = ["starting", "reconciling", "converged", "held", "failing", "stopped"] as const;

/** What is measured, each by its name and its sentence for people; docs/metrics.md says more. */
const helps = {
  mvm_build_info: "1; the version of mvm as a label",
  mvm_agent_resident_bytes: "Memory of the daemon",
  mvm_agent_cpu_seconds: "CPU time of the daemon since its start",
  mvm_host_memory_available_bytes: "Memory of the host that programs can still have",
  mvm_host_disk_free_bytes: "Free space where the state folder is",
  mvm_host_load_1m: "Load of the host over the last minute",
  mvm_instances: "Instances by tenant and status",
  mvm_instances_wanted: "Instances asked for, by tenant and status",
  mvm_tenant_converged: "1 when a tenant is as asked by its records",
  mvm_tenant_vmm_resident_bytes: "Memory of a tenant's VMMs",
  mvm_tenant_vmm_cpu_seconds: "CPU time of a tenant's living VMMs since they began",
  mvm_tenant_open_operations: "Operations under way, or interrupted",
  mvm_tenant_deferred: "Transitions that a minimum time held back, since the log began",
  mvm_tenant_quota_refusals: "Requests refused by a quota, since the log began",
  mvm_quota_limit: "Quotas of tenants",
  mvm_quota_used: "What is used of them",
  mvm_corrupt_records: "State files that cannot be read",
  mvm_reconcile_state: "1 for the state the loop is in",
  mvm_reconcile_held: "What was not done in the last plan, for a reason",
  mvm_reconcile_busy_tenants: "Tenants that are being worked on",
  mvm_reconcile_pass_seconds: "How long the last pass took to look and plan",
  mvm_reconcile_pass_timestamp_seconds: "When the last pass began",
  mvm_desired_generation: "Of the newest signed document that was taken",
  mvm_api_connections: "Open connections to the node's API",
  mvm_api_refusals: "Requests and connections refused since the daemon's start",
  mvm_certificate_expiry_timestamp_seconds: "When the node's certificate ends",
  mvm_production: "1 on a node of production",
  mvm_waiver: "1 for each promise of production that is waived on this host",
  mvm_promise_lacking: "1 for each promise of production that keeps microVMs from starting",
} as const;
type Name = keyof typeof helps;

export interface ReadingParts {
  readonly state: AgentState;
  readonly stats: NodeStats;
  readonly version: string;
  readonly production: ProductionView;
  readonly residentBytes: number;
  readonly cpuSeconds: number;
}

/** What a scrape sees. */
export function readingOf(parts: ReadingParts): AgentReading {
  const { state, stats, production } = parts;
  const { loop } = state;
  const notReady =
    loop.state === "starting"
      ? "it has not looked at everything yet"
      : !state.isListening
        ? "it has no certificate, so that no coordinator can ask it"
        : "";
  const samples = [
    sample("mvm_build_info", 1, { version: parts.version }),
    sample("mvm_agent_resident_bytes", parts.residentBytes),
    sample("mvm_agent_cpu_seconds", parts.cpuSeconds),
    sample("mvm_host_memory_available_bytes", stats.host.memory_available_mib * mib),
    sample("mvm_host_disk_free_bytes", stats.host.disk_free_mib * mib),
    sample("mvm_host_load_1m", stats.host.load_1m),
    sample("mvm_corrupt_records", stats.corrupt.length),
    ...stats.tenants.flatMap(tenantSamples),
    ...loopStates.map((name) =>
      sample("mvm_reconcile_state", loop.state === name ? 1 : 0, { state: name }),
    ),
    sample("mvm_reconcile_held", loop.held.length),
    sample("mvm_reconcile_busy_tenants", loop.busy),
    ...(loop.last_pass_at === null || loop.last_pass_ms === null
      ? []
      : [
          sample("mvm_reconcile_pass_seconds", loop.last_pass_ms / 1000),
          sample("mvm_reconcile_pass_timestamp_seconds", Date.parse(loop.last_pass_at) / 1000),
        ]),
    sample("mvm_desired_generation", loop.generation ?? 0),
    sample("mvm_api_connections", state.connections),
    sample("mvm_api_refusals", state.refusals),
    ...(state.certificateExpiresAtMs === null
      ? []
      : [sample("mvm_certificate_expiry_timestamp_seconds", state.certificateExpiresAtMs / 1000)]),
    sample("mvm_production", production.production ? 1 : 0),
    ...production.waivers.map(({ promise }) => sample("mvm_waiver", 1, { promise })),
    ...production.lacking.map((promise) => sample("mvm_promise_lacking", 1, { promise })),
  ];
  return { ready: notReady === "", notReady, samples };
}

function tenantSamples(tenant: TenantStats): MetricSample[] {
  const labels = { tenant: tenant.tenant_id };
  const each = (name: Name, values: object, label: string): MetricSample[] =>
    Object.entries(values).flatMap(([key, value]) =>
      typeof value === "number" ? [sample(name, value, { ...labels, [label]: key })] : [],
    );
  return [
    ...each("mvm_instances", tenant.instances, "status"),
    ...each("mvm_instances_wanted", tenant.wanted, "status"),
    sample("mvm_tenant_converged", tenant.converged ? 1 : 0, labels),
    sample("mvm_tenant_vmm_resident_bytes", tenant.vmms.resident_mib * mib, labels),
    sample("mvm_tenant_vmm_cpu_seconds", tenant.vmms.cpu_seconds, labels),
    sample("mvm_tenant_open_operations", tenant.open_operations, labels),
    sample("mvm_tenant_deferred", tenant.deferred_total, labels),
    sample("mvm_tenant_quota_refusals", tenant.quota_refusals_total, labels),
    ...each("mvm_quota_limit", tenant.quotas, "quota"),
    ...each("mvm_quota_used", tenant.used, "quota"),
  ];
}

function sample(
  name: Name,
  value: number,
  labels: Readonly<Record<string, string>> = {},
): MetricSample {
  return { name, help: helps[name], labels, value };
}
