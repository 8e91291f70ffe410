import { tenantNetwork } from "../domain/address-plan.ts";
import { describeError, MvmError } from "../domain/errors.ts";
import { type Instance, vmmOf } from "../domain/instance.ts";
import type { ObservedHealth, ObservedInstance, ObservedTenant } from "../planner/observed.ts";
import type { NetworkInventory } from "../ports/network.ts";
import type { TenantRecords } from "../ports/store.ts";
import type { VmmProcess } from "../ports/vmm.ts";
import type { NodeContext } from "./context.ts";
import { tenantNetworkState } from "./networks.ts";

const healthTimeoutMs = 8000;

/** What is on the host, for all tenants. */
export interface ObservedHost {
  readonly inventory: NetworkInventory;
  readonly living: readonly VmmProcess[];
}

export async function observeHost(context: NodeContext): Promise<ObservedHost> {
  const [inventory, living] = await Promise.all([
    context.network.inventory(),
    context.vmm.list(context.settings.instanceRunRoot),
  ]);
  return { inventory, living };
}

/** Sees how a tenant is: its records, its network, its VMMs, and what its running guests say of their health. */
export async function observeTenant(
  context: NodeContext,
  records: TenantRecords,
  host?: ObservedHost,
): Promise<ObservedTenant> {
  const { inventory, living } = host ?? (await observeHost(context));
  const { bridge, netId } = tenantNetwork(records.tenant.net_id);
  const wantedTaps = tenantNetworkState(records).ports.map(({ tap }) => tap);
  const taps = inventory.taps.filter((tap) => tap.startsWith(`tn${netId}i`));
  return {
    tenant: records.tenant,
    pools: records.pools,
    networkReady:
      inventory.filterTables.length === 2 &&
      inventory.bridges.includes(bridge) &&
      inventory.dnsServers.includes(netId) &&
      taps.length === wantedTaps.length &&
      wantedTaps.every((tap) => taps.includes(tap)),
    instances: await Promise.all(
      records.instances.map((instance) => observeInstance(context, instance, living)),
    ),
  };
}

async function observeInstance(
  context: NodeContext,
  record: Instance,
  living: readonly VmmProcess[],
): Promise<ObservedInstance> {
  const own = living.filter(({ id }) => id === record.instance_id);
  const recorded = vmmOf(record);
  const match = own.find(
    ({ pid, startTicks }) => pid === recorded?.pid && startTicks === recorded.start_ticks,
  );
  const vmm =
    own.length === 0 ? "none" : own.length === 1 && match !== undefined ? "recorded" : "other";
  if (match === undefined || record.state.status !== "running" || record.operation !== null) {
    return { record, vmm, health: "unknown", healthDetail: "" };
  }
  return { record, vmm, ...(await askHealth(context, match)) };
}

/** What the guest's agent says of its services; one that does not answer in time is unhealthy. */
async function askHealth(
  context: NodeContext,
  process: VmmProcess,
): Promise<{ health: ObservedHealth; healthDetail: string }> {
  try {
    const session = await context.guestLink.open(process, healthTimeoutMs, context.signal);
    try {
      const { services } = await session.health();
      const worst =
        services.find(({ health }) => health === "unhealthy") ??
        services.find(({ health }) => health === "starting");
      if (worst === undefined) return { health: "healthy", healthDetail: "" };
      return { health: worst.health, healthDetail: `service ${worst.name}: ${worst.detail}` };
    } finally {
      session.close();
    }
  } catch (error) {
    if (!(error instanceof MvmError) || context.signal.aborted) throw error;
    return { health: "unhealthy", healthDetail: describeError(error) };
  }
}
