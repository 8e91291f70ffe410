import { join } from "node:path";
import { OperationError, UsageError } from "../../domain/errors.ts";
import type { Exec } from "../../ports/exec.ts";
import type {
  ApplyOptions,
  Network,
  NetworkDifference,
  NetworkInventory,
  ProbeReport,
  TenantNetworkState,
} from "../../ports/network.ts";
import { type OwnScope, noScope } from "../own-scope.ts";
import { AppliedNetworks, releasedAddresses, withKept } from "./applied-networks.ts";
import { forgetConnections } from "./connections.ts";
import { DnsServers } from "./dns-servers.ts";
import { filterFamilies } from "./filter-listing.ts";
import { FilterTables } from "./filter-tables.ts";
import { isForwardingOn, restoreForwarding, turnForwardingOn } from "./forwarding.ts";
import { linkDifferences, repairCommand } from "./link-differences.ts";
import { applyLinkSettings, differentSettings } from "./link-settings.ts";
import {
  hostNetworks,
  isBridgeName,
  isBuilderLinkName,
  isOurs,
  isPortName,
  parseLinks,
  planLinks,
  planNeighbours,
} from "./links.ts";
import type { Link } from "./links.ts";
import { probeRules } from "./rule-probes.ts";
import { renderRuleset } from "./ruleset.ts";
import { ScratchNamespaces } from "./scratch-namespaces.ts";

export interface LinuxNetworkOptions {
  readonly exec: Exec;
  /** Holds `network-before.json`: what the host was like before mvm changed it. */
  readonly stateDir: string;
  /** Holds `dns/` and `network-applied.json`; gone after a reboot. Made passable for dnsmasq's user (o+x). */
  readonly runDir: string;
  /** First uid of the VMMs; 1048576 from there may send nothing themselves. */
  readonly vmUidBase: number;
  /** Where the host names its resolvers. Default `/etc/resolv.conf`. */
  readonly resolvConf?: string;
  /** By what a DNS server outlives the service that starts it. */
  readonly scope?: OwnScope;
  /** Kinds of link that count as an instance's port when they have its name. Default: TAPs only. */
  readonly portKinds?: readonly string[];
}

const toolTimeoutMs = 30_000;

/**
 * Tenant networks of this process's network namespace, by `ip`, `nft`, `conntrack` and dnsmasq. Any
 * step may be cut off and the whole done again. Rules are in place before a port can carry a frame.
 */
export class LinuxNetwork implements Network {
  readonly #exec: Exec;
  readonly #vmUidBase: number;
  readonly #portKinds: readonly string[];
  readonly #formerPath: string;
  readonly #applied: AppliedNetworks;
  readonly #dns: DnsServers;
  readonly #namespaces: ScratchNamespaces;
  readonly #filter: FilterTables;

  constructor(options: LinuxNetworkOptions) {
    this.#exec = options.exec;
    this.#vmUidBase = options.vmUidBase;
    this.#portKinds = options.portKinds ?? ["tun"];
    this.#formerPath = join(options.stateDir, "network-before.json");
    this.#applied = new AppliedNetworks(join(options.runDir, "network-applied.json"));
    this.#dns = new DnsServers({
      exec: options.exec,
      runDir: options.runDir,
      resolvConf: options.resolvConf ?? "/etc/resolv.conf",
      scope: options.scope ?? noScope,
    });
    this.#namespaces = new ScratchNamespaces(options.exec);
    this.#filter = new FilterTables(options.exec, this.#namespaces);
  }

  async apply(
    named: readonly TenantNetworkState[],
    { keepUnknown = false }: ApplyOptions = {},
  ): Promise<void> {
    checkDistinct(named);
    await this.#namespaces.sweep();
    const observed = await this.#observe();
    const applied = await this.#applied.load();
    const tenants = keepUnknown ? withKept(named, applied, linkNames(observed)) : named;
    await this.#dns.keepOnly(tenants, keepUnknown);
    const plan = planLinks(observed, tenants, this.#portKinds, this.#vmUidBase);
    if (!keepUnknown) await this.#removeLinks(plan.remove);
    await this.#filter.ensure(this.#ruleset(observed, tenants, keepUnknown));
    // Under the new rules no connection begins that is to be forgotten.
    await forgetConnections(this.#exec, releasedAddresses(applied, tenants));
    if (tenants.length === 0) {
      // A builder's network that is open needs it too, and puts it back when it is closed.
      const isNeeded = keepUnknown || observed.some(({ name }) => isBuilderLinkName(name));
      if (!isNeeded) await restoreForwarding(this.#formerPath);
    } else {
      await turnForwardingOn(this.#formerPath);
      await this.#ipBatch(plan.create);
      await applyLinkSettings(tenants);
      await this.#ipBatch(plan.configure);
      const neighbours = await this.#ip(["-json", "neighbour", "show"]);
      await this.#ipBatch(planNeighbours(neighbours, tenants));
      await this.#dns.ensure(tenants);
    }
    await this.#applied.save(tenants);
  }

  async inventory(): Promise<NetworkInventory> {
    const links = (await this.#observe()).filter((link) => isOurs(link, this.#portKinds));
    const names = links.map((link) => link.name).toSorted();
    return {
      bridges: names.filter(isBridgeName),
      taps: names.filter(isPortName),
      dnsServers: await this.#dns.netIds(),
      filterTables: await this.#filter.present(),
      namespaces: await this.#namespaces.leftovers(),
    };
  }

  async verify(
    named: readonly TenantNetworkState[],
    { keepUnknown = false }: ApplyOptions = {},
  ): Promise<NetworkDifference[]> {
    const observed = await this.#observe();
    const tenants = keepUnknown
      ? withKept(named, await this.#applied.load(), linkNames(observed))
      : named;
    const expectations = { portKinds: this.#portKinds, vmUidBase: this.#vmUidBase, keepUnknown };
    const filter = await this.#filter.differences(this.#ruleset(observed, tenants, keepUnknown));
    return [
      ...linkDifferences(observed, tenants, expectations),
      ...(await settingDifferences(tenants, linkNames(observed))),
      ...filter.map(({ name, problem }): NetworkDifference => {
        return { part: "filter", name, problem, repair: repairCommand };
      }),
      ...(await this.#dns.differences(tenants)).map(({ key, problem }): NetworkDifference => {
        return { part: "dns", name: `DNS server ${key}`, problem, repair: repairCommand };
      }),
    ];
  }

  async probe(): Promise<ProbeReport> {
    const rules = await Promise.all(filterFamilies.map((family) => this.#filter.print(family)));
    return await probeRules(this.#namespaces, {
      rules: rules.filter((text) => text !== undefined).join(""),
      vmUidBase: this.#vmUidBase,
    });
  }

  #ruleset(
    observed: readonly Link[],
    tenants: readonly TenantNetworkState[],
    keepUnknown: boolean,
  ): string {
    return renderRuleset(tenants, {
      closeUnknown: keepUnknown && observed.some((link) => isOurs(link, this.#portKinds)),
      vmUidBase: this.#vmUidBase,
      hostNetworks: hostNetworks(observed),
    });
  }

  async #observe(): Promise<Link[]> {
    return parseLinks(await this.#ip(["-json", "-details", "address", "show"]));
  }

  async #ip(args: readonly string[]): Promise<string> {
    return (await this.#exec.run("ip", args, { timeoutMs: toolTimeoutMs })).stdout;
  }

  /** Removes links; one that is gone by then is as good as removed. */
  async #removeLinks(names: readonly string[]): Promise<void> {
    if (names.length === 0) return;
    const input = names.map((name) => `link delete dev ${name}\n`).join("");
    const { exitCode, stderr } = await this.#exec.tryRun("ip", ["-force", "-batch", "-"], {
      timeoutMs: toolTimeoutMs,
      input,
    });
    if (exitCode === 0) return;
    const left = linkNames(await this.#observe());
    const kept = names.filter((name) => left.has(name));
    if (kept.length === 0) return;
    throw new OperationError(`cannot remove the links ${kept.join(", ")}: ${stderr.trim()}`);
  }

  async #ipBatch(lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return;
    const input = `${lines.join("\n")}\n`;
    await this.#exec.run("ip", ["-batch", "-"], { timeoutMs: toolTimeoutMs, input });
  }
}

function linkNames(links: readonly Link[]): ReadonlySet<string> {
  return new Set(links.map(({ name }) => name));
}

/** Settings of links that are there; for the others it is enough to say that they are not. */
async function settingDifferences(
  tenants: readonly TenantNetworkState[],
  present: ReadonlySet<string>,
): Promise<NetworkDifference[]> {
  const there = tenants
    .filter(({ network }) => present.has(network.bridge))
    .map((tenant) => ({ ...tenant, ports: tenant.ports.filter(({ tap }) => present.has(tap)) }));
  const differences: NetworkDifference[] = (await differentSettings(there)).map(
    ({ path, value }) => ({
      part: "setting",
      name: path,
      problem: `is not ${value}`,
      repair: repairCommand,
    }),
  );
  if (tenants.length > 0 && !(await isForwardingOn())) {
    differences.push({
      part: "setting",
      name: "net.ipv4.ip_forward",
      problem: "is not 1: guests do not reach the outside",
      repair: repairCommand,
    });
  }
  return differences;
}

/** Two tenants on one network would be one tenant. */
function checkDistinct(tenants: readonly TenantNetworkState[]): void {
  const seen = new Set<string>();
  for (const { network, ports } of tenants) {
    for (const name of [network.bridge, ...ports.map((port) => port.tap)]) {
      if (seen.has(name)) throw new UsageError(`${name} is asked for twice`);
      seen.add(name);
    }
  }
}
