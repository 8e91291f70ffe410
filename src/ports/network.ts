import type { InstanceNetwork, TenantNetwork } from "../domain/address-plan.ts";

/** One instance's port on its tenant's bridge, and the names it answers to. */
export interface NetworkPort extends InstanceNetwork {
  /** `<id>.<pool>.mvm`, and `<pool>.mvm` when it serves. */
  readonly names: readonly string[];
}

/** All that a tenant should have on this host. */
export interface TenantNetworkState {
  readonly tenantId: string;
  readonly network: TenantNetwork;
  readonly ports: readonly NetworkPort[];
}

/** What is found of mvm's on the host, by the form of its name. */
export interface NetworkInventory {
  readonly bridges: readonly string[];
  readonly taps: readonly string[];
  /** Net ids whose DNS server runs. */
  readonly dnsServers: readonly number[];
  /** Whether mvm's packet filter tables are there. */
  readonly filterTables: boolean;
}

export interface ApplyOptions {
  /** Leaves bridges, TAPs and DNS servers that are not named, for when not every record could be read. The filter lets nothing through for them. */
  readonly keepUnknown?: boolean;
}

/**
 * Bridges, TAPs, packet filter and DNS of the tenants on this host. The caller holds the node lock.
 * Every call is ensure-style: doing it twice is doing it once.
 */
export interface Network {
  /** Makes the host equal to `tenants`: all of them, since the packet filter is one atomic batch. Removes bridges, TAPs and DNS servers of this node that are not named. */
  apply(tenants: readonly TenantNetworkState[], options?: ApplyOptions): Promise<void>;
  inventory(): Promise<NetworkInventory>;
}
