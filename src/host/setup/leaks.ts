import { join } from "node:path";
import { instanceNetwork, tenantNetwork } from "../../domain/address-plan.ts";
import { type Instance, vmmOf } from "../../domain/instance.ts";
import type { FoundOnHost, HostInventory } from "../../ports/host-inventory.ts";
import type { Leak } from "../../ports/host-setup.ts";
import type { ImageBuilder } from "../../ports/image-builder.ts";
import type { Locks } from "../../ports/locks.ts";
import type { Network } from "../../ports/network.ts";
import type { NodeRecords, Store } from "../../ports/store.ts";
import type { Vmm } from "../../ports/vmm.ts";
import { type Roots, instanceRunRoot, keysFolder, tenantsFolder } from "../roots.ts";

export interface LeakScan {
  readonly roots: Roots;
  readonly store: Store;
  readonly vmm: Vmm;
  readonly network: Network;
  readonly builder: Pick<ImageBuilder, "leftovers" | "sweep">;
  readonly locks: Locks;
  readonly inventory: HostInventory;
}

/** Finds what mvm made on this host and no record owns any more. */
export async function findLeaks(scan: LeakScan): Promise<Leak[]> {
  const records = await scan.store.load();
  const found = await scan.inventory.found();
  return [
    ...(await leakedVmms(scan, records)),
    ...(await leakedNetwork(scan, records)),
    ...leakedRunFolders(scan, records, found),
    ...(await scan.builder.leftovers()).map((name): Leak => ({
      kind: "build",
      name,
      detail: "its mvm died; the next build removes it",
    })),
    ...leakedProbes(found),
    ...(await leakedKeys(scan)),
    ...leakedTemporaryFiles(found),
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

function leakedRunFolders(
  { roots }: LeakScan,
  records: NodeRecords,
  { runFolders, mounts }: FoundOnHost,
): Leak[] {
  const owned = activeIds(records);
  const leak = (kind: "run-folder" | "mount") => (name: string) => ({
    kind,
    name: join(instanceRunRoot(roots), name),
    detail: "its instance does not run",
  });
  const ownerless = (name: string): boolean => !owned.has(name);
  return [
    ...runFolders.filter(ownerless).map(leak("run-folder")),
    ...mounts.filter(ownerless).map(leak("mount")),
  ];
}

/** A probe guest is gone when `mvm add host` is; one that is there while nobody prepares was left behind. */
function leakedProbes({ probes }: FoundOnHost): Leak[] {
  return probes.map(({ id, pid }): Leak => ({ kind: "vmm", name: id, detail: `pid ${pid}` }));
}

/**
 * A key is made before its tenant's record, so a `mvm tenant create` that dies between the two leaves
 * one. Nobody removes it unasked: where a record was lost, the key is what its disks are read with.
 */
async function leakedKeys({ roots, store, locks, inventory }: LeakScan): Promise<Leak[]> {
  const folder = keysFolder(roots);
  const ownerless = async (): Promise<string[]> => {
    const { keyFiles } = await inventory.found();
    const { tenants, corrupt } = await store.load();
    const owned = new Set<string>(tenants.map(({ tenant }) => tenant.tenant_id));
    return keyFiles.filter((name) => {
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

/** A writer that died leaves its temporary file. */
function leakedTemporaryFiles({ temporaryFiles }: FoundOnHost): Leak[] {
  return temporaryFiles.map((name): Leak => {
    return { kind: "temporary-file", name, detail: "its writer died" };
  });
}
