import { instanceNetwork, tenantNetwork } from "../domain/address-plan.ts";
import { type InstanceAddress, formatInstance } from "../domain/ids.ts";
import { type Instance, addressOf, vmmOf } from "../domain/instance.ts";
import { OperationError } from "../domain/errors.ts";
import type { Pool } from "../domain/pool.ts";
import type {
  ApplyOptions,
  NetworkDifference,
  NetworkPort,
  ProbeReport,
  TenantNetworkState,
} from "../ports/network.ts";
import type { TenantRecords } from "../ports/store.ts";
import type { NodeContext } from "./context.ts";

/** Makes the host's bridges, TAPs, filter and DNS what the records of all tenants say. */
export async function applyNetworks(context: NodeContext): Promise<void> {
  await context.locks.withNode("changing the network", async () => {
    const [tenants, options] = await wantedNetworks(context);
    await context.network.apply(tenants, options);
  });
}

/** Where the host's network is not what the records of all tenants say. */
export async function verifyNetworks(context: NodeContext): Promise<NetworkDifference[]> {
  return await context.locks.withNode("checking the network", async () => {
    const [tenants, options] = await wantedNetworks(context);
    return await context.network.verify(tenants, options);
  });
}

/** Sends stand-in guests' packets through the rules that are in force. */
export async function probeNetworks(context: NodeContext): Promise<ProbeReport> {
  return await context.locks.withNode("probing the network", () => context.network.probe());
}

/** In production nothing starts where the network does not keep tenants apart. @throws OperationError */
export async function requireIsolation(context: NodeContext): Promise<void> {
  if (!context.settings.production) return;
  const differences = await verifyNetworks(context);
  const [first] = differences;
  if (first === undefined) return;
  throw new OperationError(
    `MVM_PRODUCTION=1 starts nothing while tenants' networks are not in place: ${first.name} ${first.problem}` +
      (differences.length > 1 ? `, and ${differences.length - 1} more` : ""),
    { hint: "see all of it with: mvm net verify" },
  );
}

async function wantedNetworks(context: NodeContext): Promise<[TenantNetworkState[], ApplyOptions]> {
  const { tenants, corrupt } = await context.store.load();
  // What a record that cannot be read stands for may run: it keeps what it has.
  return [tenants.filter(hasNetwork).map(tenantNetworkState), { keepUnknown: corrupt.length > 0 }];
}

/** A tenant that is being destroyed loses its network after its last instance and before its record. */
function hasNetwork({ tenant, instances }: TenantRecords): boolean {
  return !tenant.destroying || instances.length > 0;
}

/** What a tenant's records ask of the host's network. */
export function tenantNetworkState(records: TenantRecords): TenantNetworkState {
  const { tenant, pools, instances } = records;
  return {
    tenantId: tenant.tenant_id,
    network: tenantNetwork(tenant.net_id),
    ports: instances.filter(needsPort).flatMap((instance) => {
      const pool = pools.find(({ pool_id }) => pool_id === instance.pool_id);
      // Without its pool's record nobody knows where it may go: it keeps what it has.
      return pool === undefined ? [] : [portOf(tenant.net_id, pool, instance)];
    }),
  };
}

/** A start that is being taken back is at this step: its TAP goes before the operation is over. */
export const undoStep = "undo";

/** An instance has a TAP from the moment before its VMM is started until after it is gone. */
function needsPort(instance: Instance): boolean {
  const { operation } = instance;
  if (vmmOf(instance) !== undefined) return true;
  return operation?.kind === "start" && operation.step !== undoStep;
}

function portOf(netId: number, pool: Pool, instance: Instance): NetworkPort {
  const address = addressOf(instance);
  return {
    ...instanceNetwork(netId, instance.net_offset),
    owner: formatInstance(address),
    egress: pool.egress,
    names: portNames(address, instance.state.status !== "warm" && !instance.spare),
  };
}

/** The names an instance answers to on its tenant's network: its own, and its pool's when it serves. */
export function portNames({ pool, instance }: InstanceAddress, serves: boolean): string[] {
  const own = `${instance}.${pool}.mvm`;
  return serves ? [own, `${pool}.mvm`] : [own];
}
