import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { ConflictError, HostLacksError, UsageError } from "../../domain/errors.ts";
import type { BuilderLink, BuilderNetwork } from "../../ports/builder-network.ts";
import type { Exec } from "../../ports/exec.ts";
import { isErrno, readFileIfAny } from "../files.ts";
import { renderBuilderRules } from "./builder-ruleset.ts";
import { restoreForwarding, turnForwardingOn } from "./forwarding.ts";
import { type Link, hostNetworks, isBridgeName, isBuilderLinkName, parseLinks } from "./links.ts";

export interface LinuxBuilderNetworkOptions {
  readonly exec: Exec;
  /** Holds `network-before.json`, as for LinuxNetwork. */
  readonly stateDir: string;
  /** The uid of a builder's VMM: besides root only it may open the TAP. */
  readonly vmUid: number;
  /** Runs work alone on this node: forwarding is shared with the tenants' networks. */
  readonly withNode: <T>(what: string, work: () => Promise<T>) => Promise<T>;
  /** Where the host names its resolvers, best first. */
  readonly resolvConfs?: readonly string[];
}

const toolTimeoutMs = 30_000;
const buildIdPattern = /^b-([0-9a-f]{8})$/;
const linkPattern = /^mvm[bt]-([0-9a-f]{8})$/;
const tablePattern = /^mvm_build_([0-9a-f]{8})$/;
/** The second names what systemd-resolved asks, where the first has only its loopback address. */
const defaultResolvConfs = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
const tableList = z.object({
  nftables: z.array(z.object({ table: z.object({ name: z.string() }).optional() })),
});

/** Networks of builders in this process's network namespace, by `ip` and `nft`. Rules are in place before a frame can pass. */
export class LinuxBuilderNetwork implements BuilderNetwork {
  readonly #options: LinuxBuilderNetworkOptions;
  readonly #formerPath: string;

  constructor(options: LinuxBuilderNetworkOptions) {
    this.#options = options;
    this.#formerPath = join(options.stateDir, "network-before.json");
  }

  async open(buildId: string): Promise<BuilderLink> {
    const names = namesOf(buildId);
    return this.#options.withNode("making a builder's network", async () => {
      const links = await this.#links();
      if (links.some(({ addresses }) => addresses.includes(`${names.gateway}/30`))) {
        throw new ConflictError(`another build has the addresses of ${buildId}`, {
          hint: "run the same command again: each build gets others",
        });
      }
      const resolvers = await this.#resolvers(links);
      await this.#nft(
        renderBuilderRules({
          table: names.table,
          bridge: names.bridge,
          tap: names.tap,
          guestIp: names.guestIp,
          resolvers,
          hostNetworks: hostNetworks(links),
        }),
      );
      await turnForwardingOn(this.#formerPath);
      await this.#ip(
        `link add name ${names.bridge} address ${names.bridgeMac} type bridge mcast_snooping 0`,
        `tuntap add dev ${names.tap} mode tap user ${this.#options.vmUid}`,
      );
      for (const link of [names.bridge, names.tap]) await disableIpv6(link);
      await this.#ip(
        `address add ${names.gateway}/30 dev ${names.bridge}`,
        `link set dev ${names.tap} master ${names.bridge}`,
        `link set dev ${names.bridge} up`,
        `link set dev ${names.tap} up`,
      );
      const { tap, mac, gateway } = names;
      return { tap, mac, guest: `${names.guestIp}/30`, gateway, resolvers };
    });
  }

  async close(buildId: string): Promise<void> {
    const { bridge, tap, table } = namesOf(buildId);
    await this.#options.withNode("removing a builder's network", async () => {
      const there = new Set((await this.#links()).map(({ name }) => name));
      await this.#ip(
        ...[tap, bridge].filter((name) => there.has(name)).map((name) => `link delete dev ${name}`),
      );
      await this.#nft(`table inet ${table}\ndelete table inet ${table}\n`);
      // With the last network that needed it, the host is again as it was.
      const names = (await this.#links()).map(({ name }) => name);
      if (!names.some((name) => isBridgeName(name) || isBuilderLinkName(name))) {
        await restoreForwarding(this.#formerPath);
      }
    });
  }

  async list(): Promise<string[]> {
    const links = (await this.#links()).map(({ name }) => linkPattern.exec(name)?.[1]);
    const { stdout } = await this.#options.exec.run("nft", ["-j", "list", "tables"], {
      timeoutMs: toolTimeoutMs,
    });
    const tables = tableList
      .parse(JSON.parse(stdout))
      .nftables.map(({ table }) => tablePattern.exec(table?.name ?? "")?.[1]);
    const ids = [...links, ...tables].filter((id) => id !== undefined);
    return [...new Set(ids)].toSorted().map((id) => `b-${id}`);
  }

  /** The host's resolvers that a guest can ask: not those that only the host itself can. @throws HostLacksError */
  async #resolvers(links: readonly Link[]): Promise<string[]> {
    const own = new Set(
      links.flatMap(({ addresses }) => addresses.map((cidr) => cidr.split("/")[0])),
    );
    for (const path of this.#options.resolvConfs ?? defaultResolvConfs) {
      const found = [
        ...((await readFileIfAny(path)) ?? "").matchAll(/^nameserver\s+(\d+\.\d+\.\d+\.\d+)\s*$/gm),
      ]
        .map(([, address = ""]) => address)
        .filter((address) => !address.startsWith("127.") && !own.has(address));
      if (found.length > 0) return [...new Set(found)];
    }
    throw new HostLacksError("this host has no DNS server that a builder could ask", {
      hint: "name one that is not this machine in /etc/resolv.conf, or build without --network",
    });
  }

  async #links(): Promise<Link[]> {
    const { stdout } = await this.#options.exec.run(
      "ip",
      ["-json", "-details", "address", "show"],
      { timeoutMs: toolTimeoutMs },
    );
    return parseLinks(stdout);
  }

  async #ip(...lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return;
    const input = `${lines.join("\n")}\n`;
    await this.#options.exec.run("ip", ["-batch", "-"], { timeoutMs: toolTimeoutMs, input });
  }

  async #nft(batch: string): Promise<void> {
    await this.#options.exec.run("nft", ["-f", "-"], { timeoutMs: toolTimeoutMs, input: batch });
  }
}

/** Everything of a builder's network that follows from its id. 198.18.0.0/15 is of no network in use (RFC 2544); each build has four of its addresses. */
function namesOf(buildId: string): {
  readonly bridge: string;
  readonly tap: string;
  readonly table: string;
  readonly mac: string;
  readonly bridgeMac: string;
  readonly gateway: string;
  readonly guestIp: string;
} {
  const id = buildIdPattern.exec(buildId)?.[1];
  if (id === undefined) throw new UsageError(`${buildId} is no build`);
  const [high = 0, low = 0] = createHash("sha256").update(id).digest();
  const octets = (last: number): string => `198.18.${high}.${(low & 0xfc) + last}`;
  const hex = (byte: number): string => byte.toString(16).padStart(2, "0");
  return {
    bridge: `mvmb-${id}`,
    tap: `mvmt-${id}`,
    table: `mvm_build_${id}`,
    mac: `02:6d:62:${hex(high)}:${hex(low)}:02`,
    bridgeMac: `02:6d:62:${hex(high)}:${hex(low)}:01`,
    gateway: octets(1),
    guestIp: octets(2),
  };
}

/** Without IPv6 in the kernel there is nothing to turn off. */
async function disableIpv6(link: string): Promise<void> {
  try {
    await writeFile(`/proc/sys/net/ipv6/conf/${link}/disable_ipv6`, "1");
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
}
