import type { Dashboard } from "../node/dashboard.ts";

/** The dashboard of `mvm connect`, as the onboarding guide shows it. */
export function renderDashboard(shown: Dashboard, nowMs: number = Date.now()): string {
  const { tenant, pools, instances } = shown;
  const poolWidth = longest(pools.map(({ address }) => address));
  const addressWidth = longest(instances.map(({ address }) => address));
  const statusWidth = longest(instances.map(({ status }) => status));
  const workers =
    pools.find(({ role }) => role === "worker")?.address ?? `${tenant.tenant_id}/<pool>`;
  const lines = [
    `Deployment: ${tenant.tenant_id}`,
    "",
    "Network:",
    `  Gateway:  ${tenant.gateway}`,
    `  Subnet:   ${tenant.subnet}`,
    `  Bridge:   ${tenant.bridge}`,
    "",
    "Pools:",
    ...pools.map((pool) => {
      const { vcpus, mem_mib } = pool.instance_resources;
      const { running, warm } = pool.desired_counts;
      return `  ${pool.address.padEnd(poolWidth)} (role: ${pool.role}, ${vcpus}vcpu/${mem_mib}MiB, running: ${running}, warm: ${warm})`;
    }),
    "",
    "Instances:",
    ...instances.map(
      ({ address, status, ip }) =>
        `  ${address.padEnd(addressWidth)} ${title(status).padEnd(statusWidth)} ip=${ip}`,
    ),
  ];
  const troubled = instances.filter(
    ({ health, cause }) => cause !== null || health === "unhealthy" || health === "starting",
  );
  if (troubled.length > 0) {
    lines.push("", "Health:");
    for (const { address, cause, health, health_detail } of troubled) {
      lines.push(`  ${address}: ${cause ?? `${health}: ${health_detail}`}`);
    }
  }
  const taken = [{ address: tenant.tenant_id, ...tenant }, ...pools].filter(
    ({ override_until }) => override_until !== null && Date.parse(override_until) > nowMs,
  );
  if (taken.length > 0) {
    lines.push("", "Overridden by hand:");
    for (const { address, override_until } of taken)
      lines.push(`  ${address} until ${override_until}`);
  }
  if (shown.urls.length > 0) {
    lines.push("", "Open:", ...shown.urls.map((url) => `  ${url}`));
    for (const name of shown.generated_secrets) {
      lines.push(`  ${name} is in ${shown.secrets_file} (under "generated")`);
    }
  }
  lines.push(
    "",
    "Quick reference:",
    `  Set secrets:    mvm tenant secrets set ${tenant.tenant_id} --from-file secrets.json`,
    `  List instances: mvm instance list --tenant ${tenant.tenant_id}`,
    `  Scale workers:  mvm pool scale ${workers} --running 4 --warm 2`,
  );
  return lines.join("\n");
}

function longest(texts: readonly string[]): number {
  return Math.max(0, ...texts.map(({ length }) => length));
}

function title(status: string): string {
  return status.slice(0, 1).toUpperCase() + status.slice(1);
}
