import { parseInstanceAddress, parseTenantId } from "../../domain/ids.ts";
import type {
  ApplyOptions,
  Network,
  NetworkDifference,
  NetworkInventory,
  NetworkPort,
  ProbeReport,
  TenantNetworkState,
} from "../../ports/network.ts";
import type { NetIds } from "../../ports/record-folders.ts";
import type { PortNames, TenantNames } from "../../protocol/hostd-objects.ts";
import type { HostdClient } from "./client.ts";

/** The tenants' networks, as hostd makes them from their ids. */
export class RemoteNetwork implements Network {
  readonly #hostd: HostdClient;

  constructor(hostd: HostdClient) {
    this.#hostd = hostd;
  }

  async apply(
    tenants: readonly TenantNetworkState[],
    { keepUnknown = false }: ApplyOptions = {},
  ): Promise<void> {
    await this.#hostd.call("NetworkApply", { tenants: tenants.map(namesOf), keepUnknown });
  }

  inventory(): Promise<NetworkInventory> {
    return this.#hostd.call("NetworkInventory", {});
  }

  async verify(
    tenants: readonly TenantNetworkState[],
    { keepUnknown = false }: ApplyOptions = {},
  ): Promise<NetworkDifference[]> {
    const asked = { tenants: tenants.map(namesOf), keepUnknown };
    return (await this.#hostd.call("NetworkVerify", asked)).differences;
  }

  probe(): Promise<ProbeReport> {
    return this.#hostd.call("NetworkProbe", {});
  }
}

/** The net ids ever used, in hostd's keeping. */
export class RemoteNetIds implements NetIds {
  readonly #hostd: HostdClient;

  constructor(hostd: HostdClient) {
    this.#hostd = hostd;
  }

  async use(netId: number | undefined): Promise<ReadonlySet<number>> {
    return new Set((await this.#hostd.call("NetIds", { use: netId ?? null })).used);
  }
}

function namesOf({ tenantId, network, ports }: TenantNetworkState): TenantNames {
  return { tenant: parseTenantId(tenantId), netId: network.netId, ports: ports.map(portOf) };
}

function portOf({ offset, owner, names, egress }: NetworkPort): PortNames {
  const address = parseInstanceAddress(owner);
  return { offset, owner: address, serves: names.includes(`${address.pool}.mvm`), egress };
}
