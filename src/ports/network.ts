import type { InstanceNetwork, TenantNetwork } from "../domain/address-plan.ts";
import type { EgressPolicy } from "../domain/egress.ts";

/** One instance's port on its tenant's bridge, and the names it answers to. */
export interface NetworkPort extends InstanceNetwork {
  /** `tenant/pool/i-xxxxxxxx`: who has this address. Another owner's connections are not its own. */
  readonly owner: string;
  /** `<id>.<pool>.mvm`, and `<pool>.mvm` when it serves. */
  readonly names: readonly string[];
  /** Where it may go outside its tenant's network. */
  readonly egress: EgressPolicy;
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
  /** Net ids that have a DNS server. */
  readonly dnsServers: readonly number[];
  /** The families of mvm's two packet filter tables, as far as they are there: `inet`, `bridge`. */
  readonly filterTables: readonly string[];
  /** Network namespaces of a check whose program died. */
  readonly namespaces: readonly string[];
}

export interface ApplyOptions {
  /**
   * For when not every record could be read: what is not named and was applied before stays as it
   * was, with its filter and DNS. What was never applied stays too, and nothing passes for it.
   */
  readonly keepUnknown?: boolean;
}

/** Something on the host that is not as the records say. */
export interface NetworkDifference {
  readonly part: "link" | "address" | "setting" | "filter" | "tap" | "dns";
  /** What it is about, such as `br-tenant-1` or `table inet mvm, chain input`. */
  readonly name: string;
  readonly problem: string;
  /** The command that mends it. */
  readonly repair: string;
}

/** One probe of `Network.probe`: whether a packet of this kind passed, and whether it should. */
export interface NetworkProbe {
  /** Such as `guest → another tenant's guest, TCP`. */
  readonly what: string;
  readonly allowed: boolean;
  readonly passed: boolean;
}

export interface ProbeReport {
  readonly probes: readonly NetworkProbe[];
  /** The rules that were probed, as `nft` prints them. */
  readonly rules: string;
}

/**
 * Bridges, TAPs, packet filter and DNS of the tenants on this host. The caller holds the node lock.
 * Every call is ensure-style: doing it twice is doing it once.
 */
export interface Network {
  /** Makes the host equal to `tenants`: all of them, since the packet filter is one atomic batch. Removes bridges, TAPs and DNS servers of this node that are not named. */
  apply(tenants: readonly TenantNetworkState[], options?: ApplyOptions): Promise<void>;
  inventory(): Promise<NetworkInventory>;
  /** Where the host differs from what `apply` with the same arguments would leave; nothing is changed. */
  verify(
    tenants: readonly TenantNetworkState[],
    options?: ApplyOptions,
  ): Promise<NetworkDifference[]>;
  /**
   * Sends packets of stand-in guests through the rules this host has now, in namespaces made for it;
   * without rules, through those it would get. Nothing of the host is changed.
   */
  probe(): Promise<ProbeReport>;
}
