import { instanceNetwork, tenantNetwork } from "../domain/address-plan.ts";
import { type Instance, vmmOf } from "../domain/instance.ts";
import type { NetworkPort, TenantNetworkState } from "../ports/network.ts";
import type { TenantRecords } from "../ports/store.ts";
import type { NodeContext } from "./context.ts";

/** Makes the host's bridges, TAPs, filter and DNS what the records of all tenants say. */
export async function applyNetworks(context: NodeContext): Promise<void> {
  await context.locks.withNode("changing the network", async () => {
    const { tenants, corrupt } = await context.store.load();
    // What a record that cannot be read stands for may run: its links are left alone.
    await context.network.apply(tenants.filter(hasNetwork).map(tenantNetworkState), {
      keepUnknown: corrupt.length > 0,
    });
  });
}

/** A tenant that is being destroyed loses its network after its last instance and before its record. */
function hasNetwork({ tenant, instances }: TenantRecords): boolean {
  return !tenant.destroying || instances.length > 0;
}

/** What a tenant's records ask of the host's network. */
export function tenantNetworkState(records: TenantRecords): TenantNetworkState {
  const { tenant, instances } = records;
  return {
    tenantId: tenant.tenant_id,
    network: tenantNetwork(tenant.net_id),
    ports: instances.filter(needsPort).map((instance) => portOf(tenant.net_id, instance)),
  };
}

/** An instance has a TAP from the moment before its VMM is started until after it is gone. */
function needsPort(instance: Instance): boolean {
  return vmmOf(instance) !== undefined || instance.operation?.kind === "start";
}

function portOf(netId: number, instance: Instance): NetworkPort {
  const own = `${instance.instance_id}.${instance.pool_id}.mvm`;
  const serves = instance.state.status !== "warm" && !instance.spare;
  return {
    ...instanceNetwork(netId, instance.net_offset),
    names: serves ? [own, `${instance.pool_id}.mvm`] : [own],
  };
}
