import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { instanceNetwork, tenantNetwork } from "../../domain/address-plan.ts";
import { type Instance, vmmOf } from "../../domain/instance.ts";
import type { Leak } from "../../ports/host-setup.ts";
import type { ImageBuilder } from "../../ports/image-builder.ts";
import type { Locks } from "../../ports/locks.ts";
import type { Network } from "../../ports/network.ts";
import type { NodeRecords, Store } from "../../ports/store.ts";
import type { Vmm } from "../../ports/vmm.ts";
import { isErrno, listFolderIfAny, statIfAny } from "../files.ts";
import { mountPoints } from "../mounts.ts";
import { type Roots, instanceRunRoot, keysFolder, tenantsFolder } from "../roots.ts";

export interface LeakScan {
  readonly roots: Roots;
  readonly store: Store;
  readonly vmm: Vmm;
  readonly network: Network;
  readonly builder: Pick<ImageBuilder, "leftovers" | "sweep">;
  readonly locks: Locks;
}

/** Finds what mvm made on this host and no record owns any more. */
export async function findLeaks(scan: LeakScan): Promise<Leak[]> {
  const records = await scan.store.load();
  return [
    ...(await leakedVmms(scan, records)),
    ...(await leakedNetwork(scan, records)),
    ...(await leakedRunFolders(scan, records)),
    ...(await scan.builder.leftovers()).map((name): Leak => ({
      kind: "build",
      name,
      detail: "its mvm died; the next build removes it",
    })),
    ...(await leakedProbes(scan)),
    ...(await leakedKeys(scan)),
    ...(await leakedTemporaryFiles(scan.roots)),
  ];
}

/** Whether an instance may have a VMM, a TAP and a run folder now. */
function isActive(instance: Instance): boolean {
  return vmmOf(instance) !== undefined || instance.operation !== null;
}

function activeIds(records: NodeRecords): Set<string> {
  const instances = records.tenants.flatMap((tenant) => tenant.instances);
  return new Set(instances.filter(isActive).map(({ instance_id }) => instance_id));
}

async function leakedVmms(scan: LeakScan, records: NodeRecords): Promise<Leak[]> {
  const owned = activeIds(records);
  const living = await scan.vmm.list(instanceRunRoot(scan.roots));
  const seen = new Set<string>();
  return living.flatMap(({ id, pid }): Leak[] => {
    const second = seen.has(id);
    seen.add(id);
    if (owned.has(id) && !second) return [];
    const detail = `pid ${pid}: ${second ? "a second VMM of this instance" : "no instance owns it"}`;
    return [{ kind: "vmm", name: id, detail }];
  });
}

async function leakedNetwork(scan: LeakScan, records: NodeRecords): Promise<Leak[]> {
  const found = await scan.network.inventory();
  const networks = records.tenants.map(({ tenant }) => tenantNetwork(tenant.net_id));
  const bridges = new Set(networks.map(({ bridge }) => bridge));
  const netIds = new Set(networks.map(({ netId }) => netId));
  const taps = new Set(
    records.tenants.flatMap(({ tenant, instances }) =>
      instances
        .filter(isActive)
        .map((instance) => instanceNetwork(tenant.net_id, instance.net_offset).tap),
    ),
  );
  const leaks: Leak[] = [
    ...found.bridges
      .filter((name) => !bridges.has(name))
      .map((name): Leak => ({ kind: "bridge", name, detail: "no tenant has it" })),
    ...found.taps
      .filter((name) => !taps.has(name))
      .map((name): Leak => ({ kind: "tap", name, detail: "no instance that runs has it" })),
    ...found.namespaces.map((name): Leak => ({
      kind: "namespace",
      name,
      detail: "the check that made it died; the next change of a network removes it",
    })),
    ...found.dnsServers
      .filter((netId) => !netIds.has(netId))
      .map((netId): Leak => ({ kind: "dns", name: String(netId), detail: "no tenant has it" })),
  ];
  if (found.filterTables.length > 0 && networks.length === 0) {
    leaks.push({ kind: "filter", name: "mvm", detail: "tables are there and no tenant is" });
  }
  return leaks;
}

async function leakedRunFolders(scan: LeakScan, records: NodeRecords): Promise<Leak[]> {
  const owned = activeIds(records);
  const root = instanceRunRoot(scan.roots);
  const mounted = (await mountPoints()).filter((path) => path.startsWith(`${root}/`));
  const folders = (await listFolderIfAny(root)).filter((name) => !owned.has(name));
  return [
    ...folders.map((name): Leak => ({
      kind: "run-folder",
      name: join(root, name),
      detail: "its instance does not run",
    })),
    ...mounted
      .filter((path) => !owned.has(path.slice(root.length + 1)))
      .map((name): Leak => ({ kind: "mount", name, detail: "its instance does not run" })),
  ];
}

/** A probe guest is gone when `mvm add host` is; one that is there while nobody prepares was left behind. */
async function leakedProbes(scan: LeakScan): Promise<Leak[]> {
  const living = await scan.vmm.list(join(scan.roots.runDir, "probe"));
  return living.map(({ id, pid }): Leak => ({ kind: "vmm", name: id, detail: `pid ${pid}` }));
}

/**
 * A key is made before its tenant's record, so a `mvm tenant create` that dies between the two leaves
 * one. Nobody removes it unasked: where a record was lost, the key is what its disks are read with.
 */
async function leakedKeys({ roots, store, locks }: LeakScan): Promise<Leak[]> {
  const folder = keysFolder(roots);
  const ownerless = async (): Promise<string[]> => {
    const names = await listFolderIfAny(folder);
    const { tenants, corrupt } = await store.load();
    const owned = new Set<string>(tenants.map(({ tenant }) => tenant.tenant_id));
    return names.filter((name) => {
      const [tenant = "", ...rest] = name.split(".");
      if (rest.join(".") !== "key" || owned.has(tenant)) return false;
      return !corrupt.some(
        ({ path }) => path === join(tenantsFolder(roots), tenant, "tenant.json"),
      );
    });
  };
  if ((await ownerless()).length === 0) return [];
  // Under this lock no tenant is between its key and its record.
  const names = await locks.withNode("looking for keys without a tenant", ownerless);
  return names.map((name): Leak => {
    const tenant = name.slice(0, -".key".length);
    const detail = `tenant ${tenant} was not made to its end; make it again, or remove the file`;
    return { kind: "key", name: join(folder, name), detail };
  });
}

/** A writer that died leaves its temporary file; one that writes now is done within a minute. */
async function leakedTemporaryFiles(roots: Roots): Promise<Leak[]> {
  const inTenants = await list(tenantsFolder(roots), true);
  const paths = [
    ...inTenants.map((name) => join(tenantsFolder(roots), name)),
    ...(await list(keysFolder(roots))).map((name) => join(keysFolder(roots), name)),
    ...(await list(roots.stateDir)).map((name) => join(roots.stateDir, name)),
  ];
  const leaks: Leak[] = [];
  for (const path of paths) {
    if (!path.endsWith(".tmp")) continue;
    const found = await statIfAny(path);
    if (found === undefined || Date.now() - found.mtimeMs < 60_000) continue;
    leaks.push({ kind: "temporary-file", name: path, detail: "its writer died" });
  }
  return leaks;
}

async function list(folder: string, recursive = false): Promise<string[]> {
  try {
    return await readdir(folder, { recursive });
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}
