import { createHash } from "node:crypto";
import { chmod, mkdir, readdir, readlink, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { OperationError } from "../../domain/errors.ts";
import type { Exec } from "../../ports/exec.ts";
import type { TenantNetworkState } from "../../ports/network.ts";
import { isErrno, readFileIfAny, writeFileAtomic } from "../files.ts";
import {
  isAlive,
  listPids,
  processArguments,
  processStartTicks,
  signalProcess,
} from "../processes.ts";
import type { ProcessIdentity } from "../processes.ts";
import { dnsPaths, renderDnsConfig, renderHosts } from "./dns-config.ts";
import type { DnsPaths } from "./dns-config.ts";
import { networkNamespaceId } from "./forwarding.ts";

interface DnsServersOptions {
  readonly exec: Exec;
  readonly runDir: string;
  /** The file that names the host's resolvers. */
  readonly resolvConf: string;
}

const startTimeoutMs = 10_000;
const endTimeoutMs = 3_000;
const pollMs = 20;

const recordSchema = z.object({
  pid: z.number(),
  startTicks: z.number(),
  networkNamespace: z.string(),
  configDigest: z.string(),
  hostsDigest: z.string(),
});
type ServerRecord = z.infer<typeof recordSchema>;

/**
 * One dnsmasq for each tenant. It outlives the program that starts it, and is found again by its
 * command line, which holds the path of its configuration; a pid alone is never trusted.
 */
export class DnsServers {
  readonly #exec: Exec;
  readonly #runDir: string;
  readonly #root: string;
  readonly #resolvConf: string;

  constructor(options: DnsServersOptions) {
    this.#exec = options.exec;
    this.#runDir = options.runDir;
    this.#root = join(options.runDir, "dns");
    this.#resolvConf = options.resolvConf;
  }

  /** The living servers of this node, by net id. */
  async running(): Promise<Map<number, ProcessIdentity[]>> {
    const servers = new Map<number, ProcessIdentity[]>();
    for (const pid of await listPids()) {
      const netId = this.#netIdOf((await processArguments(pid)) ?? []);
      const startTicks = netId === undefined ? undefined : await processStartTicks(pid);
      if (netId === undefined || startTicks === undefined) continue;
      servers.set(netId, [...(servers.get(netId) ?? []), { pid, startTicks }]);
    }
    return servers;
  }

  /** Ends the servers of all other net ids and removes their files. */
  async keepOnly(netIds: ReadonlySet<number>): Promise<void> {
    const running = await this.running();
    const left = new Set([...running.keys(), ...(await this.#foldersFound())]);
    for (const netId of left) {
      if (netIds.has(netId)) continue;
      await endAll(running.get(netId) ?? []);
      await rm(dnsPaths(this.#root, netId).folder, { recursive: true, force: true });
    }
    if (netIds.size === 0) await rm(this.#root, { recursive: true, force: true });
  }

  /**
   * Makes a server run for each tenant with its present names: one that runs is kept, told to read
   * its hosts again when they changed, and restarted only when its configuration did.
   * @throws HostLacksError without dnsmasq, OperationError when it does not start.
   */
  async ensure(tenants: readonly TenantNetworkState[]): Promise<void> {
    await this.#openFolders();
    const running = await this.running();
    for (const tenant of tenants) {
      await this.#ensureOne(tenant, running.get(tenant.network.netId) ?? []);
    }
  }

  async #ensureOne(tenant: TenantNetworkState, running: readonly ProcessIdentity[]): Promise<void> {
    const paths = dnsPaths(this.#root, tenant.network.netId);
    const config = renderDnsConfig(tenant, paths, this.#resolvConf);
    const hosts = renderHosts(tenant);
    const wanted = {
      networkNamespace: await networkNamespaceId(),
      configDigest: digest(config),
      hostsDigest: digest(hosts),
    };
    await mkdir(paths.folder, { recursive: true, mode: 0o755 });
    if ((await readFileIfAny(paths.hosts)) !== hosts) {
      await writeFileAtomic(paths.hosts, hosts, 0o644);
    }
    const server = await adoptable(paths, running, wanted);
    if (server === undefined) {
      await endAll(running);
      await writeFileAtomic(paths.config, config, 0o644);
      const started = await this.#start(tenant, paths);
      await writeRecord(paths, { ...started, ...wanted });
    } else if (server.hostsDigest !== wanted.hostsDigest) {
      // Signal first: dying in between costs one signal too many, the other way round a stale name.
      await signalProcess(server, "SIGHUP");
      await writeRecord(paths, { ...server, ...wanted });
    }
  }

  async #start(tenant: TenantNetworkState, paths: DnsPaths): Promise<ProcessIdentity> {
    await rm(paths.pid, { force: true });
    await this.#exec.run("dnsmasq", [`--conf-file=${paths.config}`], {
      timeoutMs: startTimeoutMs,
    });
    const pid = Number(await readFileIfAny(paths.pid));
    const startTicks = pid > 0 ? await processStartTicks(pid) : undefined;
    const netId = this.#netIdOf((await processArguments(pid)) ?? []);
    if (startTicks === undefined || netId !== tenant.network.netId) {
      throw new OperationError(`the DNS server of tenant ${tenant.tenantId} ended at once`, {
        hint: "its last words are in the system log: journalctl -t dnsmasq",
      });
    }
    return { pid, startTicks };
  }

  /** dnsmasq reads its hosts file again as its own user, which must be let through to it. */
  async #openFolders(): Promise<void> {
    await mkdir(this.#root, { recursive: true, mode: 0o755 });
    for (let folder = this.#root; ; folder = dirname(folder)) {
      const mode = (await stat(folder)).mode;
      if ((mode & 0o001) === 0) {
        if (folder !== this.#root && folder !== this.#runDir) {
          throw new OperationError(`${folder} keeps dnsmasq away from ${this.#root}`, {
            hint: `chmod o+x ${folder}`,
          });
        }
        await chmod(folder, (mode & 0o7777) | 0o001);
      }
      if (folder === dirname(folder)) return;
    }
  }

  #netIdOf(args: readonly string[]): number | undefined {
    const prefix = `--conf-file=${this.#root}/`;
    const path = args.find((arg) => arg.startsWith(prefix))?.slice(prefix.length);
    const match = /^(\d{1,4})\/dnsmasq\.conf$/.exec(path ?? "");
    return match?.[1] === undefined ? undefined : Number(match[1]);
  }

  async #foldersFound(): Promise<number[]> {
    try {
      const names = await readdir(this.#root);
      return names.filter((name) => /^\d{1,4}$/.test(name)).map(Number);
    } catch (error) {
      if (isErrno(error, "ENOENT")) return [];
      throw error;
    }
  }
}

/** The one server that runs with the wanted configuration in this namespace, if nothing else runs beside it. */
async function adoptable(
  paths: DnsPaths,
  running: readonly ProcessIdentity[],
  wanted: Pick<ServerRecord, "networkNamespace" | "configDigest">,
): Promise<ServerRecord | undefined> {
  const record = parseRecord(await readFileIfAny(paths.record));
  const [server, ...others] = running;
  if (record === undefined || server === undefined || others.length > 0) return undefined;
  const same =
    record.pid === server.pid &&
    record.startTicks === server.startTicks &&
    record.configDigest === wanted.configDigest &&
    (await namespaceOf(server.pid)) === wanted.networkNamespace;
  return same ? record : undefined;
}

async function namespaceOf(pid: number): Promise<string | undefined> {
  try {
    return await readlink(`/proc/${pid}/ns/net`);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

function parseRecord(text: string | undefined): ServerRecord | undefined {
  if (text === undefined) return undefined;
  try {
    return recordSchema.parse(JSON.parse(text));
  } catch (error) {
    // It can be made again by a restart, so a damaged one is as good as none.
    if (error instanceof SyntaxError || error instanceof z.ZodError) return undefined;
    throw error;
  }
}

async function writeRecord(paths: DnsPaths, record: ServerRecord): Promise<void> {
  await writeFileAtomic(paths.record, `${JSON.stringify(record)}\n`, 0o600);
}

async function endAll(servers: readonly ProcessIdentity[]): Promise<void> {
  for (const server of servers) {
    await signalProcess(server, "SIGTERM");
    if (await hasEnded(server)) continue;
    await signalProcess(server, "SIGKILL");
    if (!(await hasEnded(server))) {
      throw new OperationError(`the DNS server with pid ${server.pid} does not end`);
    }
  }
}

async function hasEnded(server: ProcessIdentity): Promise<boolean> {
  for (let waitedMs = 0; waitedMs < endTimeoutMs; waitedMs += pollMs) {
    if (!(await isAlive(server))) return true;
    await sleep(pollMs);
  }
  return false;
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
