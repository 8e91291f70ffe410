import { createHash } from "node:crypto";
import { chmod, mkdir, readlink, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { OperationError } from "../../domain/errors.ts";
import type { Exec } from "../../ports/exec.ts";
import type { TenantNetworkState } from "../../ports/network.ts";
import { isErrno, listFolderIfAny, readFileIfAny, writeFileAtomic } from "../files.ts";
import {
  isAlive,
  listPids,
  processArguments,
  processParent,
  processStartTicks,
  processUid,
  signalProcess,
} from "../processes.ts";
import type { ProcessIdentity } from "../processes.ts";
import type { OwnScope } from "../own-scope.ts";
import { dnsPaths, parseDnsKey, renderDnsConfig, renderHosts } from "./dns-config.ts";
import type { DnsPaths } from "./dns-config.ts";
import { resolverGroups } from "./egress-groups.ts";
import { networkNamespaceId } from "./forwarding.ts";

interface DnsServersOptions {
  readonly exec: Exec;
  readonly runDir: string;
  /** The file that names the host's resolvers. */
  readonly resolvConf: string;
  readonly scope: OwnScope;
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

/** A server that should run, and with what. */
interface WantedServer {
  readonly tenantId: string;
  readonly key: string;
  readonly paths: DnsPaths;
  readonly config: string;
  readonly hosts: string;
}

/**
 * One dnsmasq for each tenant and one more for each of its lists of names. They outlive the program
 * that starts them and are found again by their command line, which holds the path of their
 * configuration, and by their user: any program can call itself by any name, but only root can run
 * as dnsmasq's user. A pid alone is never trusted.
 */
export class DnsServers {
  readonly #exec: Exec;
  readonly #runDir: string;
  readonly #root: string;
  readonly #resolvConf: string;
  readonly #scope: OwnScope;

  constructor(options: DnsServersOptions) {
    this.#exec = options.exec;
    this.#runDir = options.runDir;
    this.#root = join(options.runDir, "dns");
    this.#resolvConf = options.resolvConf;
    this.#scope = options.scope;
  }

  /** The net ids that have a server. */
  async netIds(): Promise<number[]> {
    const keys = [...(await this.#running()).keys()];
    const netIds = new Set(keys.flatMap((key) => parseDnsKey(key)?.netId ?? []));
    return [...netIds].toSorted((left, right) => left - right);
  }

  /** Ends the servers that these tenants do not need and removes their files; `keepUnknown` leaves those of other tenants. */
  async keepOnly(tenants: readonly TenantNetworkState[], keepUnknown: boolean): Promise<void> {
    const wanted = new Set(
      tenants.flatMap((tenant) => resolverGroups(tenant).map(({ key }) => key)),
    );
    const netIds = new Set(tenants.map(({ network }) => network.netId));
    const running = await this.#running();
    const found = await listFolderIfAny(this.#root);
    for (const name of new Set([...running.keys(), ...found])) {
      const server = parseDnsKey(name);
      if (server === undefined || wanted.has(name)) continue;
      if (keepUnknown && !netIds.has(server.netId)) continue;
      await endAll(running.get(name) ?? []);
      await rm(dnsPaths(this.#root, name).folder, { recursive: true, force: true });
    }
    if (tenants.length === 0 && !keepUnknown)
      await rm(this.#root, { recursive: true, force: true });
  }

  /**
   * Makes a tenant's servers run with its present names: one that runs is kept, told to read its
   * hosts again when they changed, and restarted only when its configuration did.
   * @throws HostLacksError without dnsmasq, OperationError when it does not start.
   */
  async ensure(tenants: readonly TenantNetworkState[]): Promise<void> {
    await this.#openFolders();
    const running = await this.#running();
    for (const wanted of tenants.flatMap((tenant) => this.#wantedOf(tenant))) {
      await this.#ensureOne(wanted, running.get(wanted.key) ?? []);
    }
  }

  /** What is wrong with the servers of these tenants, by key. */
  async differences(
    tenants: readonly TenantNetworkState[],
  ): Promise<{ readonly key: string; readonly problem: string }[]> {
    const running = await this.#running();
    const differences: { key: string; problem: string }[] = [];
    for (const wanted of tenants.flatMap((tenant) => this.#wantedOf(tenant))) {
      const problem = await problemOf(wanted, running.get(wanted.key) ?? []);
      if (problem !== undefined) differences.push({ key: wanted.key, problem });
    }
    return differences;
  }

  #wantedOf(tenant: TenantNetworkState): WantedServer[] {
    return resolverGroups(tenant).map((group) => {
      const paths = dnsPaths(this.#root, group.key);
      return {
        tenantId: tenant.tenantId,
        key: group.key,
        paths,
        config: renderDnsConfig(tenant, group, paths, this.#resolvConf),
        hosts: group.domains === undefined ? renderHosts(tenant) : "",
      };
    });
  }

  async #ensureOne(wanted: WantedServer, running: readonly ProcessIdentity[]): Promise<void> {
    const { paths, config, hosts } = wanted;
    const identity = await identityOf(wanted);
    await mkdir(paths.folder, { recursive: true, mode: 0o755 });
    if ((await readFileIfAny(paths.hosts)) !== hosts) {
      await writeFileAtomic(paths.hosts, hosts, 0o644);
    }
    const server = await adoptable(paths, running, identity);
    if (server === undefined) {
      await endAll(running);
      await writeFileAtomic(paths.config, config, 0o644);
      const started = await this.#start(wanted);
      await writeRecord(paths, { ...started, ...identity });
    } else if (server.hostsDigest !== identity.hostsDigest) {
      // Signal first: dying in between costs one signal too many, the other way round a stale name.
      await signalProcess(server, "SIGHUP");
      await writeRecord(paths, { ...server, ...identity });
    }
  }

  async #start({ tenantId, key, paths }: WantedServer): Promise<ProcessIdentity> {
    await rm(paths.pid, { force: true });
    const [program, ...args] = [...this.#scope(`mvm-dns-${key}`), "dnsmasq"];
    await this.#exec.run(program, [...args, `--conf-file=${paths.config}`], {
      timeoutMs: startTimeoutMs,
    });
    const pid = Number(await readFileIfAny(paths.pid));
    const startTicks = pid > 0 ? await processStartTicks(pid) : undefined;
    if (startTicks === undefined || this.#keyOf((await processArguments(pid)) ?? []) !== key) {
      throw new OperationError(`the DNS server of tenant ${tenantId} ended at once`, {
        hint: "its last words are in the system log: journalctl -t dnsmasq",
      });
    }
    return { pid, startTicks };
  }

  /** The living servers of this node by key, without the children they fork for each TCP connection. */
  async #running(): Promise<Map<string, ProcessIdentity[]>> {
    const user = await uidOfUser("dnsmasq");
    const found = new Map<number, { key: string; startTicks: number }>();
    for (const pid of await listPids()) {
      const key = this.#keyOf((await processArguments(pid)) ?? []);
      const startTicks = key === undefined ? undefined : await processStartTicks(pid);
      if (key === undefined || startTicks === undefined) continue;
      const uid = await processUid(pid);
      // It is root until it has opened its sockets.
      if (uid === 0 || (uid !== undefined && uid === user)) found.set(pid, { key, startTicks });
    }
    const servers = new Map<string, ProcessIdentity[]>();
    for (const [pid, { key, startTicks }] of found) {
      if (found.get((await processParent(pid)) ?? 0)?.key === key) continue;
      servers.set(key, [...(servers.get(key) ?? []), { pid, startTicks }]);
    }
    return servers;
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

  #keyOf(args: readonly string[]): string | undefined {
    const prefix = `--conf-file=${this.#root}/`;
    const path = args.find((arg) => arg.startsWith(prefix))?.slice(prefix.length);
    const [folder, file, ...rest] = path?.split("/") ?? [];
    if (folder === undefined || file !== "dnsmasq.conf" || rest.length > 0) return undefined;
    return parseDnsKey(folder)?.key;
  }
}

async function identityOf(wanted: WantedServer): Promise<Omit<ServerRecord, "pid" | "startTicks">> {
  return {
    networkNamespace: await networkNamespaceId(),
    configDigest: digest(wanted.config),
    hostsDigest: digest(wanted.hosts),
  };
}

async function problemOf(
  wanted: WantedServer,
  running: readonly ProcessIdentity[],
): Promise<string | undefined> {
  if (running.length === 0) return "does not run";
  if (running.length > 1) return `runs ${running.length} times`;
  const identity = await identityOf(wanted);
  const server = await adoptable(wanted.paths, running, identity);
  if (server === undefined) return "runs with another configuration, or was not started by mvm";
  const same =
    server.hostsDigest === identity.hostsDigest &&
    (await readFileIfAny(wanted.paths.hosts)) === wanted.hosts &&
    (await readFileIfAny(wanted.paths.config)) === wanted.config;
  return same ? undefined : "has files that are not as they should be";
}

/** A user of this machine, by /etc/passwd; see passwd(5). */
async function uidOfUser(name: string): Promise<number | undefined> {
  const lines = ((await readFileIfAny("/etc/passwd")) ?? "").split("\n");
  const uid = lines.find((line) => line.startsWith(`${name}:`))?.split(":")[2];
  return uid === undefined ? undefined : Number(uid);
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
