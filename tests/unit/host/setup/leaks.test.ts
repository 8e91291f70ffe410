import assert from "node:assert/strict";
import { mkdir, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { parseTenantId } from "../../../../src/domain/ids.ts";
import { type LeakScan, findLeaks } from "../../../../src/host/setup/leaks.ts";
import { LocalInventory } from "../../../../src/host/setup/local-inventory.ts";
import { FileStore } from "../../../../src/host/store/file-store.ts";
import { FileTenantKeys } from "../../../../src/host/store/file-tenant-keys.ts";
import type { NetworkInventory } from "../../../../src/ports/network.ts";
import type { VmmProcess } from "../../../../src/ports/vmm.ts";
import { aPool, aTenant, anInstance } from "../../../builders/records.ts";
import { TemporaryRoots } from "../../../builders/temporary-roots.ts";

const nothing: NetworkInventory = {
  bridges: [],
  taps: [],
  dnsServers: [],
  filterTables: [],
  namespaces: [],
};

interface Host {
  readonly living?: readonly VmmProcess[];
  readonly network?: Partial<NetworkInventory>;
  readonly builds?: readonly string[];
  /** Runs while the node lock is taken: what another command has done until then. */
  readonly beforeLock?: () => Promise<void>;
}

/** Looks for leaks on a host that has this, beside what lies in the roots. @returns each as its kind and name. */
async function leaksOf(roots: TemporaryRoots, host: Host = {}): Promise<string[]> {
  const vmm = {
    list: async (root: string) =>
      (host.living ?? []).filter(({ runDir }) => runDir.startsWith(`${root}/`)),
  };
  const scan = {
    roots,
    store: new FileStore(roots),
    vmm,
    inventory: new LocalInventory(roots, vmm),
    network: { inventory: async () => ({ ...nothing, ...host.network }) },
    builder: { leftovers: async () => [...(host.builds ?? [])] },
    locks: {
      withNode: async <T>(_what: string, work: () => Promise<T>): Promise<T> => {
        await host.beforeLock?.();
        return await work();
      },
    },
  };
  const leaks = await findLeaks(scan as unknown as LeakScan);
  return leaks.map(({ kind, name }) => `${kind} ${name.replace(`${roots.folder}/`, "")}`);
}

/** Tenant `acme` with an instance that runs and one that is stopped. */
async function withAcme(): Promise<TemporaryRoots> {
  const roots = await TemporaryRoots.make();
  const store = new FileStore(roots);
  await new FileTenantKeys(roots).ensure(parseTenantId("acme"));
  await store.saveTenant(aTenant());
  await store.savePool(aPool("web"));
  await store.saveInstance(anInstance("web", 2, "running"));
  await store.saveInstance(anInstance("web", 3, "stopped"));
  return roots;
}

const vmm = (roots: TemporaryRoots, id: string, pid: number, folder = "i"): VmmProcess => ({
  id,
  runDir: join(roots.runDir, folder, id),
  pid,
  startTicks: pid,
});

async function fileOf(age: "old" | "new", path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, "");
  if (age === "old") await utimes(path, 0, 0);
}

test("what records own is no leak", async () => {
  await using roots = await withAcme();
  await mkdir(join(roots.runDir, "i", "i-00000002"), { recursive: true });
  const network = {
    bridges: ["br-tenant-1"],
    taps: ["tn1i2"],
    dnsServers: [1],
    filterTables: ["inet", "bridge"],
  };
  assert.deepEqual(await leaksOf(roots, { living: [vmm(roots, "i-00000002", 7)], network }), []);
});

const leaks: readonly (readonly [
  what: string,
  leak: string,
  make: (roots: TemporaryRoots) => Host | Promise<Host>,
])[] = [
  [
    "a VMM of an instance that is stopped",
    "vmm i-00000003",
    (roots) => ({ living: [vmm(roots, "i-00000003", 7)] }),
  ],
  [
    "a VMM of no instance",
    "vmm i-0000000f",
    (roots) => ({ living: [vmm(roots, "i-0000000f", 7)] }),
  ],
  [
    "a second VMM of an instance",
    "vmm i-00000002",
    (roots) => ({ living: [vmm(roots, "i-00000002", 7), vmm(roots, "i-00000002", 8)] }),
  ],
  ["a probe's VMM", "vmm probe", (roots) => ({ living: [vmm(roots, "probe", 7, "probe")] })],
  ["another's bridge", "bridge br-tenant-2", () => ({ network: { bridges: ["br-tenant-2"] } })],
  ["the TAP of a stopped instance", "tap tn1i3", () => ({ network: { taps: ["tn1i3"] } })],
  ["a DNS server of no tenant", "dns 2", () => ({ network: { dnsServers: [2] } })],
  ["a check's namespace", "namespace x", () => ({ network: { namespaces: ["x"] } })],
  ["what a build left", "build b-1", () => ({ builds: ["b-1"] })],
  [
    "a stopped instance's run folder",
    "run-folder run/i/i-00000003",
    async (roots) => {
      await mkdir(join(roots.runDir, "i", "i-00000003"), { recursive: true });
      return {};
    },
  ],
  [
    "a temporary file of a record",
    "temporary-file state/tenants/acme/.tenant.json.aabbccddeeff.tmp",
    async (roots) => {
      await fileOf("old", join(roots.stateDir, "tenants/acme/.tenant.json.aabbccddeeff.tmp"));
      return {};
    },
  ],
  [
    "a temporary file of a key",
    "temporary-file state/keys/.acme.key.aabbccddeeff.tmp",
    async (roots) => {
      await fileOf("old", join(roots.stateDir, "keys/.acme.key.aabbccddeeff.tmp"));
      return {};
    },
  ],
  [
    "a temporary file of the node",
    "temporary-file state/.networks.json.aabbccddeeff.tmp",
    async (roots) => {
      await fileOf("old", join(roots.stateDir, ".networks.json.aabbccddeeff.tmp"));
      return {};
    },
  ],
  [
    "the key of a tenant that was never made to its end",
    "key state/keys/other.key",
    async (roots) => {
      await new FileTenantKeys(roots).ensure(parseTenantId("other"));
      return {};
    },
  ],
];
for (const [what, leak, make] of leaks) {
  test(`${what} is a leak`, async () => {
    await using roots = await withAcme();
    assert.deepEqual(await leaksOf(roots, await make(roots)), [leak]);
  });
}

test("tables of the packet filter are a leak where no tenant is", async () => {
  await using roots = await TemporaryRoots.make();
  const network = { filterTables: ["inet"] };
  assert.deepEqual(await leaksOf(roots, { network }), ["filter mvm"]);
});

test("a temporary file that is being written is no leak", async () => {
  await using roots = await withAcme();
  await fileOf("new", join(roots.stateDir, "tenants/acme/.tenant.json.aabbccddeeff.tmp"));
  assert.deepEqual(await leaksOf(roots), []);
});

test("the key of a tenant that is being made is no leak", async () => {
  await using roots = await withAcme();
  const other = parseTenantId("other");
  await new FileTenantKeys(roots).ensure(other);
  const beforeLock = (): Promise<void> =>
    new FileStore(roots).saveTenant(aTenant({ tenant_id: other, net_id: 2 }));
  assert.deepEqual(await leaksOf(roots, { beforeLock }), []);
});

test("the key of a tenant whose record cannot be read is no leak", async () => {
  await using roots = await withAcme();
  await writeFile(join(roots.stateDir, "tenants/acme/tenant.json"), "{");
  assert.deepEqual(
    (await leaksOf(roots)).filter((leak) => leak.startsWith("key")),
    [],
  );
});

test("what a writer of a key or of the net ids left is removed by the next one", async () => {
  await using roots = await withAcme();
  const left = ["keys/.other.key.aabbccddeeff.tmp", ".networks.json.aabbccddeeff.tmp"];
  for (const name of left) await fileOf("old", join(roots.stateDir, name));
  assert.equal((await leaksOf(roots)).length, 2);
  const other = parseTenantId("other");
  const store = new FileStore(roots);
  await store.useNetId(2);
  await new FileTenantKeys(roots).ensure(other);
  await store.saveTenant(aTenant({ tenant_id: other, net_id: 2 }));
  assert.deepEqual(await leaksOf(roots), []);
});
