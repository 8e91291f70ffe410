import { existsSync, promises, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { TenantId } from "../../domain/ids.ts";
import { type Instance, addressOf, instanceForm } from "../../domain/instance.ts";
import { type Pool, poolForm } from "../../domain/pool.ts";
import { type RecordForm, parseRecord } from "../../domain/record-form.ts";
import { type Tenant, tenantForm } from "../../domain/tenant.ts";
import type { NetIds, RecordAddress, RecordFolders } from "../../ports/record-folders.ts";
import type { CorruptFile, NodeRecords, Store, TenantRecords } from "../../ports/store.ts";
import { isErrno, removeHalfWritten, writeFileAtomic } from "../files.ts";
import { type Roots, instanceFolder, poolFolder, tenantFolder, tenantsFolder } from "../roots.ts";
import { recordOwner } from "../state-owner.ts";
import { FileNetIds } from "./file-net-ids.ts";
import { HostRecordFolders } from "./host-record-folders.ts";
import { inEnglish, problemOf } from "./record-problem.ts";

const tenantsInOneGo = 32;

/** Keeps the node's records as JSON files under the state folder. */
export class FileStore implements Store {
  readonly #roots: Roots;
  readonly #folders: RecordFolders;
  readonly #netIds: NetIds;
  /** Tenants whose folder this process has rid of what dead writers left. */
  readonly #swept = new Set<string>();

  /** Without `parts` all of the state is this process's own. */
  constructor(
    roots: Roots,
    parts: { readonly folders?: RecordFolders; readonly netIds?: NetIds } = {},
  ) {
    this.#roots = roots;
    this.#folders = parts.folders ?? new HostRecordFolders(roots);
    this.#netIds = parts.netIds ?? new FileNetIds(roots);
  }

  async load(): Promise<NodeRecords> {
    const corrupt: CorruptFile[] = [];
    const tenants: TenantRecords[] = [];
    for (const [index, name] of listFolder(tenantsFolder(this.#roots)).entries()) {
      const records = this.#loadTenant(name, corrupt);
      if (records !== undefined) tenants.push(records);
      // Small files are read in a quarter of the time without promises; now and then others have their turn.
      if (index % tenantsInOneGo === tenantsInOneGo - 1) {
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
    }
    return { tenants, corrupt };
  }

  async saveTenant(tenant: Tenant): Promise<void> {
    const of = { tenant: tenant.tenant_id };
    await this.#sweepOnce(of.tenant);
    await this.#save(of, join(tenantFolder(this.#roots, of.tenant), "tenant.json"), tenant);
  }

  async savePool(pool: Pool): Promise<void> {
    const of = { tenant: pool.tenant_id, pool: pool.pool_id };
    await this.#sweepOnce(of.tenant);
    await this.#save(of, join(poolFolder(this.#roots, of), "pool.json"), pool);
  }

  async saveInstance(instance: Instance): Promise<void> {
    const of = addressOf(instance);
    await this.#sweepOnce(of.tenant);
    await this.#save(of, join(instanceFolder(this.#roots, of), "instance.json"), instance);
  }

  async remove(of: RecordAddress): Promise<void> {
    await this.#sweepOnce(of.tenant);
    if ("instance" in of) {
      await removeFile(instanceFolder(this.#roots, of), "instance.json");
    } else if ("pool" in of) {
      const folder = poolFolder(this.#roots, of);
      await promises.rm(join(folder, "artifacts"), { recursive: true, force: true });
      await removeFile(folder, "pool.json");
    } else {
      const folder = tenantFolder(this.#roots, of.tenant);
      await removeFile(folder, "secrets.json");
      await removeFile(folder, "tenant.json");
    }
    await this.#folders.remove(of);
  }

  useNetId(netId: number | undefined): Promise<ReadonlySet<number>> {
    return this.#netIds.use(netId);
  }

  /** Folders are there as good as always, and made when they are not. */
  async #save(of: RecordAddress, path: string, record: unknown): Promise<void> {
    const text = `${JSON.stringify(record, undefined, 2)}\n`;
    const write = (): Promise<void> => writeFileAtomic(path, text, 0o600, recordOwner(this.#roots));
    try {
      await write();
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
      await this.#folders.make(of);
      await write();
    }
  }

  /** The caller holds the tenant's lock, so what lies half-written in its folder is nobody's. */
  async #sweepOnce(tenant: TenantId): Promise<void> {
    if (this.#swept.has(tenant)) return;
    this.#swept.add(tenant);
    await removeHalfWritten(tenantFolder(this.#roots, tenant));
  }

  #loadTenant(name: string, corrupt: CorruptFile[]): TenantRecords | undefined {
    const folder = join(tenantsFolder(this.#roots), name);
    const tenant = read(
      join(folder, "tenant.json"),
      tenantForm,
      corrupt,
      ({ tenant_id }) => tenant_id === name,
    );
    if (tenant === undefined) return undefined;
    const pools: Pool[] = [];
    const instances: Instance[] = [];
    for (const poolName of listFolder(join(folder, "pools"))) {
      const poolPath = join(folder, "pools", poolName);
      const pool = read(
        join(poolPath, "pool.json"),
        poolForm,
        corrupt,
        ({ tenant_id, pool_id }) => tenant_id === name && pool_id === poolName,
      );
      if (pool === undefined) continue;
      pools.push(pool);
      for (const id of listFolder(join(poolPath, "instances"))) {
        const path = join(poolPath, "instances", id, "instance.json");
        const instance = read(
          path,
          instanceForm,
          corrupt,
          ({ tenant_id, pool_id, instance_id }) =>
            tenant_id === name && pool_id === poolName && instance_id === id,
        );
        if (instance !== undefined) instances.push(instance);
      }
    }
    return { tenant, pools, instances: instances.toSorted(byPoolAndAddress) };
  }
}

function byPoolAndAddress(a: Instance, b: Instance): number {
  if (a.pool_id !== b.pool_id) return a.pool_id < b.pool_id ? -1 : 1;
  return a.net_offset - b.net_offset;
}

/**
 * Parses a state file; one that cannot be used is noted and does not stop the others. Neither can one
 * that was copied from another object's folder: `belongs` says whether a record lies where it should.
 */
function read<T>(
  path: string,
  form: RecordForm<T>,
  corrupt: CorruptFile[],
  belongs: (record: T) => boolean,
): T | undefined {
  try {
    const text = readIfAny(path);
    // A folder without its record is what a destroyed object left on purpose, such as a kept data disk.
    if (text === undefined) return undefined;
    const record = parseRecord(form, JSON.parse(text), inEnglish);
    if (belongs(record)) return record;
    corrupt.push({ path, problem: "it is the record of another object" });
    return undefined;
  } catch (error) {
    corrupt.push({ path, problem: problemOf(error) });
    return undefined;
  }
}

/** The text of a file, or undefined when there is none: no folder of its name, or a file in its place. */
function readIfAny(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) return undefined;
    throw error;
  }
}

/** The names in a folder, sorted; none when there is no such folder, which is the usual case and asked first. */
function listFolder(path: string): string[] {
  if (!existsSync(path)) return [];
  try {
    return readdirSync(path).toSorted();
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) return [];
    throw error;
  }
}

async function removeFile(folder: string, file: string): Promise<void> {
  await promises.rm(join(folder, file), { force: true });
}
