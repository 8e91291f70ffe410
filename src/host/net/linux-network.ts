import { join } from "node:path";
import { z } from "zod";
import { UsageError } from "../../domain/errors.ts";
import type { Exec } from "../../ports/exec.ts";
import type {
  ApplyOptions,
  Network,
  NetworkInventory,
  TenantNetworkState,
} from "../../ports/network.ts";
import { DnsServers } from "./dns-servers.ts";
import { restoreForwarding, turnForwardingOn } from "./forwarding.ts";
import { applyLinkSettings } from "./link-settings.ts";
import {
  hostNetworks,
  isBridgeName,
  isOurs,
  isPortName,
  parseLinks,
  planLinks,
  planNeighbours,
} from "./links.ts";
import type { Link } from "./links.ts";
import { renderRuleset } from "./ruleset.ts";

export interface LinuxNetworkOptions {
  readonly exec: Exec;
  /** Holds `network-before.json`: what the host was like before mvm changed it. */
  readonly stateDir: string;
  /** Holds `dns/<net id>/`; gone after a reboot. Made passable for dnsmasq's user (o+x). */
  readonly runDir: string;
  /** First uid of the VMMs; 1048576 from there may send nothing themselves. */
  readonly vmUidBase: number;
  /** Where the host names its resolvers. Default `/etc/resolv.conf`. */
  readonly resolvConf?: string;
  /** Kinds of link that count as an instance's port when they have its name. Default: TAPs only. */
  readonly portKinds?: readonly string[];
}

const toolTimeoutMs = 30_000;
const tableList = z.object({
  nftables: z.array(
    z.object({ table: z.object({ family: z.string(), name: z.string() }).optional() }),
  ),
});

/**
 * Tenant networks of this process's network namespace, by `ip`, `nft` and dnsmasq. Any step may be
 * cut off and the whole done again. Rules are in place before a port can carry a frame.
 */
export class LinuxNetwork implements Network {
  readonly #exec: Exec;
  readonly #vmUidBase: number;
  readonly #portKinds: readonly string[];
  readonly #formerPath: string;
  readonly #dns: DnsServers;

  constructor(options: LinuxNetworkOptions) {
    this.#exec = options.exec;
    this.#vmUidBase = options.vmUidBase;
    this.#portKinds = options.portKinds ?? ["tun"];
    this.#formerPath = join(options.stateDir, "network-before.json");
    this.#dns = new DnsServers({
      exec: options.exec,
      runDir: options.runDir,
      resolvConf: options.resolvConf ?? "/etc/resolv.conf",
    });
  }

  async apply(
    tenants: readonly TenantNetworkState[],
    { keepUnknown = false }: ApplyOptions = {},
  ): Promise<void> {
    checkDistinct(tenants);
    if (!keepUnknown)
      await this.#dns.keepOnly(new Set(tenants.map((tenant) => tenant.network.netId)));
    const observed = await this.#observe();
    const plan = planLinks(observed, tenants, this.#portKinds);
    if (!keepUnknown) await this.#ipBatch(plan.remove);
    const ruleset = renderRuleset(tenants, {
      vmUidBase: this.#vmUidBase,
      hostNetworks: hostNetworks(observed),
    });
    await this.#exec.run("nft", ["-f", "-"], { timeoutMs: toolTimeoutMs, input: ruleset });
    if (tenants.length === 0) {
      if (!keepUnknown) await restoreForwarding(this.#formerPath);
      return;
    }
    await turnForwardingOn(this.#formerPath);
    await this.#ipBatch(plan.create);
    await applyLinkSettings(tenants);
    await this.#ipBatch(plan.configure);
    const neighbours = await this.#ip(["-json", "neighbour", "show"]);
    await this.#ipBatch(planNeighbours(neighbours, tenants));
    await this.#dns.ensure(tenants);
  }

  async inventory(): Promise<NetworkInventory> {
    const links = (await this.#observe()).filter((link) => isOurs(link, this.#portKinds));
    const names = links.map((link) => link.name).toSorted();
    const tables = await this.#exec.run("nft", ["-j", "list", "tables"], {
      timeoutMs: toolTimeoutMs,
    });
    const dnsServers = [...(await this.#dns.running()).keys()];
    return {
      bridges: names.filter(isBridgeName),
      taps: names.filter(isPortName),
      dnsServers: dnsServers.toSorted((left, right) => left - right),
      filterTables: tableList
        .parse(JSON.parse(tables.stdout))
        .nftables.some(({ table }) => table?.name === "mvm"),
    };
  }

  async #observe(): Promise<Link[]> {
    return parseLinks(await this.#ip(["-json", "-details", "address", "show"]));
  }

  async #ip(args: readonly string[]): Promise<string> {
    return (await this.#exec.run("ip", args, { timeoutMs: toolTimeoutMs })).stdout;
  }

  async #ipBatch(lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return;
    const input = `${lines.join("\n")}\n`;
    await this.#exec.run("ip", ["-batch", "-"], { timeoutMs: toolTimeoutMs, input });
  }
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
