import { PassThrough } from "node:stream";
import { NotFoundError, OperationError } from "../../src/domain/errors.ts";
import { productionFindings } from "../builders/production-findings.ts";
import { aRevision } from "../builders/records.ts";
import type { AuditLogName } from "../../src/domain/audit.ts";
import { formatPool, parseInstanceId } from "../../src/domain/ids.ts";
import type { Instance } from "../../src/domain/instance.ts";
import type { Pool } from "../../src/domain/pool.ts";
import type { ProductionFindings, PromiseName, Waiver } from "../../src/domain/production.ts";
import type { Revision } from "../../src/domain/revision.ts";
import type { Tenant } from "../../src/domain/tenant.ts";
import type { AuditDisk } from "../../src/host/audit/audit-disk.ts";
import { AuditLog } from "../../src/host/audit/audit-log.ts";
import type { NodeContext } from "../../src/node/context.ts";
import { orderedLocks } from "../../src/node/ordered-locks.ts";
import type { AcceptedDesired } from "../../src/ports/desired-store.ts";
import type { DriveRequest } from "../../src/ports/drives.ts";
import type { GuestLink, GuestSession } from "../../src/ports/guest-link.ts";
import type { NetworkDifference, TenantNetworkState } from "../../src/ports/network.ts";
import type { StoredSecrets } from "../../src/ports/secret-store.ts";
import type { CorruptFile, NodeRecords } from "../../src/ports/store.ts";
import type { VmmProcess, VmmSpec } from "../../src/ports/vmm.ts";
import { MemoryAuditDisk, fakeSigner } from "./memory-audit.ts";

/** The process that worked on the host is gone: from here on it changes nothing. */
export class CrashError extends Error {}

/** Decides, at each call of a port, whether the call fails, or the process dies before or after it. */
export type Fault = (call: string) => "none" | "crash-before" | "crash-after" | "fail";

interface FakeVmm extends VmmProcess {
  alive: boolean;
  paused: boolean;
  readonly startedAtMs: number;
  readonly rootfs: string;
}

/** Makes a call of a port from what it does to the host. */
type Port = <A extends unknown[], T>(
  name: string,
  work: (...args: A) => T,
) => (...args: A) => Promise<T>;

const healthyAfterMs = 20_000;
/** Calls that write to the disk. */
const writes: ReadonlySet<string> = new Set([
  "store.save",
  "secrets.save",
  "audit.append",
  "audit.writeHead",
  "keys.ensure",
  "keys.replace",
]);

/**
 * A Linux host in memory with a virtual clock. What is on it outlives the processes that work on it;
 * `context()` starts such a process.
 */
export class FakeHost {
  nowMs: number = Date.parse("2026-01-01T00:00:00.000Z");
  fault: Fault = () => "none";
  /** How many turns of the event loop a call takes. */
  turns: (call: string) => number = () => 0;
  /** Calls of ports so far, in order. */
  readonly calls: string[] = [];
  /** State files that cannot be read. */
  readonly corrupt: CorruptFile[] = [];
  /** Broken promises that are seen at once, such as a second VMM. */
  readonly violations: string[] = [];
  readonly vmms: FakeVmm[] = [];
  readonly runFolders: Set<string> = new Set();
  readonly volumes: Set<string> = new Set();
  /** What the drives of each instance were last made from. */
  readonly drives: Map<string, DriveRequest> = new Map();
  /** What tells the keys of tenants apart. */
  readonly keys: Map<string, string> = new Map();
  taps: Set<string> = new Set();
  bridges: Set<string> = new Set();
  /** TAPs that are not as they should be, whatever is applied. */
  readonly tampered: Set<string> = new Set();
  /** Whether MVM_PRODUCTION=1 is set. */
  production = false;
  /** What production promises and this host does not keep, with what was found. */
  readonly unkept: Map<PromiseName, string> = new Map();
  /** What the operator waived, ended waivers too. */
  waivers: readonly Waiver[] = [];
  waiversProblem: string | null = null;
  /** Instances whose guest never becomes healthy or never answers. */
  readonly deafGuests: Set<string> = new Set();
  /** Images whose services never become healthy. */
  readonly badImages: Set<string> = new Set();
  /** Whether no guest answers, for however long one waits. */
  stuckGuests = false;
  /** Flakes that cannot be built. */
  readonly badFlakes: Set<string> = new Set();
  readonly audit: MemoryAuditDisk = new MemoryAuditDisk();
  /** Whether the disk has room; with none, nothing can be written until what is kept back is given up. */
  disk: "free" | "full" = "free";
  /** Whether space is kept back. */
  reserved = false;
  /** How often flakes were changed: each change makes another image of the same flake. */
  flakeEdits = 0;
  readonly nodeId = "node-a";
  trustedKeys: readonly Uint8Array[] = [];
  /** The document in force. */
  desired: AcceptedDesired | undefined;
  readonly #tenants = new Map<string, Tenant>();
  readonly #pools = new Map<string, Pool>();
  readonly #instances = new Map<string, Instance>();
  readonly #secrets = new Map<string, StoredSecrets>();
  readonly #netIds = new Set<number>();
  readonly #images = new Set<string>();
  #lastId = 0;
  #lastKey = 0;
  #lastToken = 0;
  #lastPid = 1000;

  records(): NodeRecords {
    return {
      corrupt: this.corrupt,
      tenants: [...this.#tenants.values()].map((tenant) => ({
        tenant,
        pools: [...this.#pools.values()].filter((pool) => pool.tenant_id === tenant.tenant_id),
        instances: [...this.#instances.values()].filter(
          (instance) => instance.tenant_id === tenant.tenant_id,
        ),
      })),
    };
  }

  /** Changes records by no command of this node, as a document that is applied does. */
  putTenant(tenant: Tenant): void {
    this.#save(this.#tenants, tenant.tenant_id, tenant);
  }

  putPool(pool: Pool): void {
    this.#save(this.#pools, `${pool.tenant_id}/${pool.pool_id}`, pool);
  }

  /** Loses the record of an instance, as a disk that was put back from a backup does. */
  forget(instance: string): void {
    this.#instances.delete(instance);
  }

  /** The images in the store. */
  get images(): ReadonlySet<string> {
    return this.#images;
  }

  living(): FakeVmm[] {
    return this.vmms.filter(({ alive }) => alive);
  }

  /** The machine restarts: processes, run folders and network are gone, the disk is not. */
  reboot(): void {
    for (const vmm of this.vmms) vmm.alive = false;
    this.runFolders.clear();
    this.taps.clear();
    this.bridges.clear();
  }

  /** A new process that works on this host. */
  context(signal: AbortSignal = new AbortController().signal): NodeContext {
    const process = { dead: false };
    // A process has locks of its own: those of one that died are free.
    const locks = new FakeLocks();
    const port: Port = (name, work) => {
      return async (...args) => this.#call(process, name, () => work(...args));
    };
    const open: GuestLink["open"] = port("guest.open", (vmm) => this.#session(vmm));
    const context: NodeContext = {
      settings: {
        vmUidBase: 1_000_000,
        instanceRunRoot: "/run/i",
        bootTimeoutMs: 60_000,
        startingVcpus: 2,
        parallelActions: 2,
        buildTimeoutMs: 60_000,
        production: this.production,
      },
      store: {
        load: port("store.load", () => this.records()),
        saveTenant: port("store.save", (tenant) =>
          this.#save(this.#tenants, tenant.tenant_id, tenant),
        ),
        savePool: port("store.save", (pool) =>
          this.#save(this.#pools, `${pool.tenant_id}/${pool.pool_id}`, pool),
        ),
        saveInstance: port("store.save", (instance) =>
          this.#save(this.#instances, instance.instance_id, instance),
        ),
        remove: port("store.remove", (address) => {
          if ("instance" in address) this.#instances.delete(address.instance);
          else if ("pool" in address) this.#pools.delete(formatPool(address));
          else {
            this.#tenants.delete(address.tenant);
            this.#secrets.delete(address.tenant);
          }
        }),
        useNetId: port("store.useNetId", (netId) => {
          if (netId !== undefined) this.#netIds.add(netId);
          return new Set(this.#netIds);
        }),
      },
      secrets: {
        location: (tenant) => `/secrets/${tenant}`,
        load: port("secrets.load", (tenant) => this.#secrets.get(tenant)),
        save: port("secrets.save", (tenant, secrets) => {
          this.#secrets.set(tenant, secrets);
        }),
      },
      desired: {
        nodeId: async () => this.nodeId,
        trustedKeys: async () => this.trustedKeys,
        load: port("desired.load", () => this.desired),
        save: port("desired.save", (accepted) => {
          this.desired = accepted;
        }),
      },
      audit: new AuditLog({
        disk: this.#auditDisk(process, port),
        signer: fakeSigner,
        clock: { nowMs: () => this.nowMs, sleep: async () => undefined },
        by: "test",
      }),
      reserve: {
        keep: port("reserve.keep", () => {
          if (this.disk === "free") this.reserved = true;
        }),
        release: port("reserve.release", () => {
          const had = this.reserved;
          this.reserved = false;
          if (had) this.disk = "free";
          return had;
        }),
      },
      keys: {
        status: port("keys.status", (tenant) => ({
          present: this.keys.has(tenant),
          fingerprint: this.keys.get(tenant) ?? null,
          changed_at: null,
          problem: null,
        })),
        ensure: port("keys.ensure", (tenant) => {
          if (this.keys.has(tenant)) return false;
          this.#lastKey += 1;
          this.keys.set(tenant, `key ${this.#lastKey}`);
          return true;
        }),
        replace: port("keys.replace", (tenant, key) => {
          this.keys.set(tenant, fakeFingerprint(key));
        }),
        fingerprint: fakeFingerprint,
        remove: port("keys.remove", (tenant) => {
          this.keys.delete(tenant);
        }),
      },
      images: {
        files: port("images.files", (hash) => {
          if (!this.#images.has(hash)) throw new NotFoundError(`no image ${hash}`);
          return { kernel: "kernel", initrd: "initrd", rootfs: hash };
        }),
        describe: port("images.describe", (hash) =>
          this.#images.has(hash) ? aRevision(hash) : undefined,
        ),
        link: port("images.link", () => undefined),
        collect: port("images.collect", (kept) => {
          const removed = [...this.#images].filter((hash) => !kept.has(hash));
          for (const hash of removed) this.#images.delete(hash);
          return removed;
        }),
      },
      builder: {
        key: port(
          "builder.key",
          (request) => `${this.flakeEdits}-${request.flakeRef}-${request.role}`,
        ),
        build: port("builder.build", (request) => {
          if (this.badFlakes.has(request.flakeRef)) throw new OperationError("the flake is broken");
          const revision = fakeRevision(this.flakeEdits, request.flakeRef, request.role);
          this.#images.add(revision.hash);
          return revision;
        }),
        leftovers: port("builder.leftovers", () => []),
        sweep: port("builder.sweep", () => []),
        retainStores: port("builder.retainStores", () => undefined),
      },
      drives: {
        folders: ({ instance }) => ({ runDir: `/run/i/${instance}`, logDir: `/log/${instance}` }),
        prepare: port("drives.prepare", (request) => {
          const { instance } = request.instance;
          this.drives.set(instance, request);
          this.runFolders.add(instance);
          this.volumes.add(instance);
          return { config: "config", secrets: "secrets", data: "data" };
        }),
        release: port("drives.release", ({ instance }) => {
          if (this.living().some(({ id }) => id === instance)) {
            this.violations.push(`run folder of ${instance} removed under its VMM`);
          }
          this.runFolders.delete(instance);
        }),
        destroy: port("drives.destroy", ({ instance }, wipe) => {
          if (wipe) this.volumes.delete(instance);
        }),
        wipeTenant: port("drives.wipeTenant", () => undefined),
      },
      network: {
        apply: port("network.apply", (tenants) => this.#applyNetwork(tenants)),
        inventory: port("network.inventory", () => ({
          bridges: [...this.bridges],
          taps: [...this.taps],
          dnsServers: this.records().tenants.map(({ tenant }) => tenant.net_id),
          filterTables: this.bridges.size > 0 ? ["inet", "bridge"] : [],
          namespaces: [],
        })),
        verify: port("network.verify", (tenants) => this.#verifyNetwork(tenants)),
        probe: port("network.probe", () => ({ probes: [], rules: "" })),
      },
      vmm: {
        capabilities: {
          memorySnapshot: false,
          lazyRestore: false,
          vsock: false,
          jail: false,
          driveHotSwap: false,
        },
        start: port("vmm.start", (spec) => this.#start(spec)),
        list: port("vmm.list", () => this.living().map((vmm) => plainProcess(vmm))),
        pause: port("vmm.pause", (vmm) => {
          this.#find(vmm).paused = true;
        }),
        resume: port("vmm.resume", (vmm) => {
          this.#find(vmm).paused = false;
        }),
        stop: port("vmm.stop", ({ pid }) => {
          for (const vmm of this.vmms) if (vmm.pid === pid) vmm.alive = false;
        }),
        openChannel: port("vmm.openChannel", () => new PassThrough()),
      },
      guestLink: {
        openForCommand: port("guest.openForCommand", (vmm) => this.#session(vmm)),
        open: async (vmm, timeoutMs, aborted) => {
          while (this.stuckGuests) {
            await new Promise(setImmediate);
            aborted?.throwIfAborted();
          }
          return open(vmm, timeoutMs, aborted);
        },
      },
      production: { look: port("production.look", () => this.#productionFindings()) },
      logs: { console: port("logs.console", () => ["last words"]) },
      meters: {
        process: async ({ pid }) => {
          const vmm = this.living().find((living) => living.pid === pid);
          if (vmm === undefined) return undefined;
          // Half of a CPU, since it was started.
          return { cpu_seconds: (this.nowMs - vmm.startedAtMs) / 2000, resident_mib: 100 };
        },
        dataDisk: async ({ instance }) =>
          this.volumes.has(instance) ? { size_mib: 1024, allocated_mib: 10 } : undefined,
        traffic: async (tap) =>
          this.taps.has(tap) ? { received_bytes: 1, sent_bytes: 2 } : undefined,
        host: async () => ({
          vcpus: 2,
          load_1m: 0.5,
          memory_total_mib: 4096,
          memory_available_mib: 2048,
          disk_total_mib: 10_000,
          disk_free_mib: 5000,
        }),
      },
      locks: orderedLocks({
        withTenant: (tenant, _what, work) => locks.hold(`tenant ${tenant}`, work),
        withBuild: (key, _what, work) => locks.hold(`build ${key}`, work),
        withNode: (_what, work) => locks.hold("node", work),
      }),
      clock: {
        nowMs: () => this.nowMs,
        sleep: async (ms, signal) => {
          signal?.throwIfAborted();
          if (process.dead) throw new CrashError("dead");
          this.nowMs += ms;
          await new Promise(setImmediate);
          signal?.throwIfAborted();
        },
      },
      newInstanceId: () => {
        this.#lastId += 1;
        return parseInstanceId(`i-${this.#lastId.toString(16).padStart(8, "0")}`);
      },
      newToken: () => {
        this.#lastToken += 1;
        return `token ${this.#lastToken}`;
      },
      onProgress: () => undefined,
      signal,
    };
    return context;
  }

  #productionFindings(): ProductionFindings {
    const { unkept, waivers, waiversProblem } = this;
    return productionFindings(unkept, { waivers, waiversProblem });
  }

  async #call<T>(process: { dead: boolean }, name: string, work: () => T): Promise<T> {
    await Promise.resolve();
    for (let left = this.turns(name); left > 0; left -= 1) await new Promise(setImmediate);
    if (process.dead) throw new CrashError("dead");
    this.calls.push(name);
    if (this.disk === "full" && writes.has(name)) throw diskFullError();
    const fault = this.fault(name);
    if (fault === "fail") throw new OperationError(`${name} failed`);
    if (fault === "crash-before") {
      process.dead = true;
      throw new CrashError(name);
    }
    const result = work();
    if (fault === "crash-after") {
      process.dead = true;
      throw new CrashError(name);
    }
    return result;
  }

  /** What changes the audit files may fail or be the last that a process does; half a line is then written. */
  #auditDisk(process: { readonly dead: boolean }, port: Port): AuditDisk {
    const disk = this.audit;
    const append = port("audit.append", (tenant: AuditLogName, bytes: string) => {
      disk.add(tenant, bytes);
    });
    return {
      size: async (tenant) => disk.size(tenant),
      read: async (tenant, offset, length) => disk.read(tenant, offset, length),
      append: async (tenant, bytes) => {
        const before = await disk.size(tenant);
        const dead = process.dead;
        try {
          await append(tenant, bytes);
        } catch (error) {
          if (!dead && before === (await disk.size(tenant))) {
            disk.add(tenant, bytes.slice(0, bytes.length / 2));
          }
          throw error;
        }
      },
      truncate: port("audit.truncate", (tenant: AuditLogName, size: number) => {
        disk.cut(tenant, size);
      }),
      readHead: async (tenant) => disk.readHead(tenant),
      writeHead: port("audit.writeHead", (tenant: AuditLogName, text: string) => {
        disk.heads.set(tenant, text);
      }),
    };
  }

  #save<T>(map: Map<string, T>, key: string, value: T): void {
    map.set(key, structuredClone(value));
  }

  #applyNetwork(tenants: readonly TenantNetworkState[]): void {
    this.bridges = new Set(tenants.map(({ network }) => network.bridge));
    this.taps = new Set(tenants.flatMap(({ ports }) => ports.map(({ tap }) => tap)));
  }

  #verifyNetwork(tenants: readonly TenantNetworkState[]): NetworkDifference[] {
    const taps = tenants.flatMap(({ ports }) => ports.map(({ tap }) => tap));
    const missing = taps.filter((tap) => !this.taps.has(tap) || this.tampered.has(tap));
    return missing.map((name) => ({ part: "tap", name, problem: "is missing", repair: "" }));
  }

  #start({ id, runDir, nics, drives }: VmmSpec): VmmProcess {
    const tap = nics[0]?.tap;
    if (this.living().some((vmm) => vmm.id === id)) this.violations.push(`a second VMM for ${id}`);
    if (tap === undefined || !this.taps.has(tap)) throw new OperationError(`no TAP ${tap}`);
    if (!this.runFolders.has(id)) throw new OperationError(`no run folder for ${id}`);
    this.#lastPid += 1;
    const vmm: FakeVmm = {
      id,
      runDir,
      pid: this.#lastPid,
      startTicks: this.#lastPid * 10,
      alive: true,
      paused: false,
      startedAtMs: this.nowMs,
      rootfs: drives.find((drive) => drive.id === "rootfs")?.path ?? "",
    };
    this.vmms.push(vmm);
    return plainProcess(vmm);
  }

  #find(process: VmmProcess): FakeVmm {
    const vmm = this.living().find(({ pid }) => pid === process.pid);
    if (vmm === undefined) throw new OperationError(`VMM ${process.id} is gone`);
    return vmm;
  }

  #session(process: VmmProcess): GuestSession {
    const vmm = this.#find(process);
    if (vmm.paused || this.deafGuests.has(vmm.id)) {
      throw new OperationError(`the guest ${vmm.id} does not answer`);
    }
    return {
      hello: {
        protocol: "mvm-guest",
        version: 1,
        nonce: "nonce",
        boot_id: "boot",
        instance_id: vmm.id,
      },
      health: async () => ({
        services: [
          {
            name: "workload",
            health:
              this.nowMs - vmm.startedAtMs >= healthyAfterMs && !this.badImages.has(vmm.rootfs)
                ? "healthy"
                : "starting",
            detail: "",
          },
        ],
        uptime_seconds: 1,
        memory_available_mib: 1,
      }),
      exec: async () => 0,
      logs: async () => [],
      shutdown: async () => {
        vmm.alive = false;
      },
      close: () => undefined,
    };
  }
}

/** Locks of one process: whoever comes second waits. */
class FakeLocks {
  readonly #tails = new Map<string, Promise<unknown>>();

  async hold<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(name) ?? Promise.resolve();
    const mine = before.then(work, work);
    this.#tails.set(name, mine);
    return mine;
  }
}

function plainProcess({ id, runDir, pid, startTicks }: FakeVmm): VmmProcess {
  return { id, runDir, pid, startTicks };
}

function fakeFingerprint(key: Uint8Array): string {
  return Buffer.from(key).toString("hex");
}

/** The image that a flake makes on the fake host. */
export function imageOfFlake(flakeRef: string, role = "worker", edits = 0): string {
  return fakeRevision(edits, flakeRef, role).hash;
}

function fakeRevision(edits: number, flakeRef: string, role: string): Revision {
  const hash = Buffer.from(`${edits}-${flakeRef}-${role}`)
    .toString("hex")
    .padEnd(64, "0")
    .slice(0, 64);
  return aRevision(hash, { flake_ref: flakeRef, role });
}

function diskFullError(): Error {
  const said = { code: "ENOSPC", errno: -28, syscall: "write" };
  return Object.assign(new Error("ENOSPC: no space left on device, write"), said);
}
