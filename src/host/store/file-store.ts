import { existsSync, promises, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import * as z from "zod/mini";
import { $ZodError } from "zod/v4/core";
import en from "zod/v4/locales/en.js";
import { OperationError, UsageError, describeError, isSystemError } from "../../domain/errors.ts";
import type { InstanceAddress, PoolAddress, TenantId } from "../../domain/ids.ts";
import { type Instance, addressOf, instanceForm } from "../../domain/instance.ts";
import { type Pool, poolForm } from "../../domain/pool.ts";
import { type RecordForm, parseRecord } from "../../domain/record-form.ts";
import { type Tenant, tenantForm } from "../../domain/tenant.ts";
import type { CorruptFile, NodeRecords, Store, TenantRecords } from "../../ports/store.ts";
import {
  isErrno,
  readFileIfAny,
  removeFolderIfEmpty,
  removeHalfWritten,
  removeHalfWrittenOf,
  writeFileAtomic,
} from "../files.ts";
import { type Roots, instanceFolder, poolFolder, tenantFolder, tenantsFolder } from "../roots.ts";

const networksSchema = z.lazy(() =>
  z.strictObject({
    schema_version: z.literal(1),
    used: z.array(z.int().check(z.gte(0), z.lte(4095))),
  }),
);

/** What is wrong with a file is said in words. */
const inEnglish = { error: en().localeError };

const tenantsInOneGo = 32;

/** Keeps the node's records as JSON files under the state folder. */
export class FileStore implements Store {
  readonly #roots: Roots;
  /** Tenants whose folder this process has rid of what dead writers left. */
  readonly #swept = new Set<string>();

  constructor(roots: Roots) {
    this.#roots = roots;
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
    await this.#sweepOnce(tenant.tenant_id);
    await save(join(tenantFolder(this.#roots, tenant.tenant_id), "tenant.json"), tenant);
  }

  async savePool(pool: Pool): Promise<void> {
    const folder = poolFolder(this.#roots, { tenant: pool.tenant_id, pool: pool.pool_id });
    await this.#sweepOnce(pool.tenant_id);
    await save(join(folder, "pool.json"), pool);
  }

  async saveInstance(instance: Instance): Promise<void> {
    await this.#sweepOnce(instance.tenant_id);
    await save(join(instanceFolder(this.#roots, addressOf(instance)), "instance.json"), instance);
  }

  async remove(
    address: { readonly tenant: TenantId } | PoolAddress | InstanceAddress,
  ): Promise<void> {
    await this.#sweepOnce(address.tenant);
    if ("instance" in address) {
      await removeRecord(instanceFolder(this.#roots, address), "instance.json");
    } else if ("pool" in address) {
      const folder = poolFolder(this.#roots, address);
      await promises.rm(join(folder, "artifacts"), { recursive: true, force: true });
      await removeFolderIfEmpty(join(folder, "instances"));
      await removeRecord(folder, "pool.json");
    } else {
      const folder = tenantFolder(this.#roots, address.tenant);
      await removeFolderIfEmpty(join(folder, "pools"));
      await promises.rm(join(folder, "secrets.json"), { force: true });
      await removeRecord(folder, "tenant.json");
    }
  }

  async useNetId(netId: number | undefined): Promise<ReadonlySet<number>> {
    const path = join(this.#roots.stateDir, "networks.json");
    const text = await readFileIfAny(path);
    const used = new Set(text === undefined ? [] : parseNetworks(path, text));
    if (netId !== undefined && !used.has(netId)) {
      used.add(netId);
      // The caller holds the node lock.
      await removeHalfWrittenOf(path);
      await save(path, { schema_version: 1, used: [...used].toSorted((a, b) => a - b) });
    }
    return used;
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

function parseNetworks(path: string, text: string): number[] {
  try {
    return networksSchema.parse(JSON.parse(text), inEnglish).used;
  } catch (error) {
    throw new OperationError(`${path} cannot be used: ${problemOf(error)}`, {
      hint: "restore it from a backup; without it a new tenant could get a subnet that was used before",
      cause: error,
    });
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

/** Why a file cannot be used; what is none of the expected errors is thrown on. */
function problemOf(error: unknown): string {
  if (error instanceof $ZodError) return z.prettifyError(error);
  if (error instanceof SyntaxError) return "it is no JSON, perhaps cut off";
  // An id that is none; a folder in its place, a bad sector, no permission.
  if (error instanceof UsageError || isSystemError(error)) return describeError(error);
  throw error;
}

async function save(path: string, value: unknown): Promise<void> {
  await promises.mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeFileAtomic(path, `${JSON.stringify(value, undefined, 2)}\n`, 0o600);
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

async function removeRecord(folder: string, file: string): Promise<void> {
  await promises.rm(join(folder, file), { force: true });
  await removeFolderIfEmpty(folder);
}
