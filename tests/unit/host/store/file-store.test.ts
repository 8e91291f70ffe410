import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, readFile, readdir, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type Instance, addressOf } from "../../../../src/domain/instance.ts";
import { parseTenantId } from "../../../../src/domain/ids.ts";
import { FileStore } from "../../../../src/host/store/file-store.ts";
import { aPool, aTenant, anInstance } from "../../../builders/records.ts";
import { TemporaryRoots } from "../../../builders/temporary-roots.ts";

const zenith = parseTenantId("zenith");

/** `acme` with pool `web` of two instances and pool `db`, and `zenith` with a pool `web`. */
async function filledStore(roots: TemporaryRoots): Promise<FileStore> {
  const store = new FileStore(roots);
  await store.saveTenant({ ...aTenant(), tenant_id: zenith, net_id: 2 });
  await store.saveTenant(aTenant());
  await store.savePool(aPool("web", { running: 1 }));
  await store.savePool(aPool("db"));
  await store.savePool({ ...aPool("web"), tenant_id: zenith });
  await store.saveInstance(anInstance("web", 9, "running"));
  await store.saveInstance(anInstance("web", 2, "failed"));
  return store;
}

function pathOf(roots: TemporaryRoots, ...parts: string[]): string {
  return join(roots.stateDir, "tenants", ...parts);
}

test("what was saved is loaded, in order", async () => {
  await using roots = await TemporaryRoots.make();
  const store = await filledStore(roots);
  const { tenants, corrupt } = await store.load();
  assert.deepEqual(corrupt, []);
  assert.deepEqual(tenants, [
    {
      tenant: aTenant(),
      pools: [aPool("db"), aPool("web", { running: 1 })],
      instances: [anInstance("web", 2, "failed"), anInstance("web", 9, "running")],
    },
    {
      tenant: { ...aTenant(), tenant_id: zenith, net_id: 2 },
      pools: [{ ...aPool("web"), tenant_id: zenith }],
      instances: [],
    },
  ]);
});

test("a node without any state has no tenants", async () => {
  await using roots = await TemporaryRoots.make();
  assert.deepEqual(await new FileStore(roots).load(), { tenants: [], corrupt: [] });
});

test("records are 0600 and their folders 0700", async () => {
  await using roots = await TemporaryRoots.make();
  const store = await filledStore(roots);
  await store.useNetId(1);
  const names = await readdir(roots.stateDir, { recursive: true });
  assert.ok(names.includes("networks.json"));
  for (const name of names) {
    const entry = await stat(join(roots.stateDir, name));
    assert.equal(entry.mode & 0o7777, entry.isDirectory() ? 0o700 : 0o600, name);
  }
});

const spoilt: Readonly<Record<string, (path: string) => Promise<void>>> = {
  "is cut off": async (path) => truncate(path, 40),
  "is empty": async (path) => truncate(path, 0),
  "is no JSON": async (path) => writeFile(path, "\u0000\u0001garbage"),
  "is of a newer schema version": async (path) => {
    const record = JSON.parse(await readFile(path, "utf8")) as object;
    await writeFile(path, JSON.stringify({ ...record, schema_version: 4 }));
  },
  "has a field that is not known": async (path) => {
    const record = JSON.parse(await readFile(path, "utf8")) as object;
    await writeFile(path, JSON.stringify({ ...record, surprise: true }));
  },
  "has an id that is none": async (path) => {
    const record = JSON.parse(await readFile(path, "utf8")) as object;
    await writeFile(path, JSON.stringify({ ...record, tenant_id: "../../etc" }));
  },
};

for (const [name, spoil] of Object.entries(spoilt)) {
  test(`an instance's record that ${name} is reported, and all else is loaded`, async () => {
    await using roots = await TemporaryRoots.make();
    const store = await filledStore(roots);
    const path = pathOf(roots, "acme/pools/web/instances/i-00000009/instance.json");
    await spoil(path);
    const before = await readFile(path);
    const { tenants, corrupt } = await store.load();
    assert.deepEqual(
      corrupt.map((file) => file.path),
      [path],
    );
    assert.notEqual(corrupt[0]?.problem, "");
    assert.deepEqual(
      tenants.map(({ tenant, pools, instances }) => [
        tenant.tenant_id,
        pools.length,
        instances.map(({ instance_id }) => instance_id),
      ]),
      [
        ["acme", 2, ["i-00000002"]],
        ["zenith", 1, []],
      ],
    );
    assert.deepEqual(await readFile(path), before, "it is left as it was");
  });

  test(`a tenant's record that ${name} is reported, and the other tenants are loaded`, async () => {
    await using roots = await TemporaryRoots.make();
    const store = await filledStore(roots);
    await spoil(pathOf(roots, "acme/tenant.json"));
    const { tenants, corrupt } = await store.load();
    assert.equal(corrupt.length, 1);
    assert.deepEqual(
      tenants.map(({ tenant }) => tenant.tenant_id),
      ["zenith"],
    );
  });
}

test("a record that lies under another object's name is not taken for that object's", async () => {
  await using roots = await TemporaryRoots.make();
  const store = await filledStore(roots);
  const stray = await readFile(pathOf(roots, "zenith/tenant.json"));
  await writeFile(pathOf(roots, "acme/tenant.json"), stray);
  const { tenants, corrupt } = await store.load();
  assert.equal(tenants.filter(({ tenant }) => tenant.tenant_id === zenith).length, 1);
  assert.equal(corrupt.length, 1);
});

test("an instance's folder that was copied makes no second instance of one id", async () => {
  await using roots = await TemporaryRoots.make();
  const store = await filledStore(roots);
  await cp(
    pathOf(roots, "acme/pools/web/instances/i-00000002"),
    pathOf(roots, "acme/pools/db/instances/i-00000002"),
    { recursive: true },
  );
  const { tenants, corrupt } = await store.load();
  assert.equal(tenants[0]?.instances.length, 2);
  assert.deepEqual(
    corrupt.map(({ problem }) => problem),
    ["it is the record of another object"],
  );
});

test("files and folders that are none of the store's are passed over", async () => {
  await using roots = await TemporaryRoots.make();
  const store = await filledStore(roots);
  await writeFile(pathOf(roots, "README"), "x");
  await writeFile(pathOf(roots, "acme/.tenant.json.abc.tmp"), "{");
  const { tenants, corrupt } = await store.load();
  assert.equal(tenants.length, 2);
  assert.deepEqual(corrupt, []);
});

test("removing an instance leaves its data disk's folder and takes the rest", async () => {
  await using roots = await TemporaryRoots.make();
  const store = await filledStore(roots);
  const [kept, gone] = [anInstance("web", 9, "running"), anInstance("web", 2, "failed")];
  const volumes = pathOf(roots, "acme/pools/web/instances/i-00000009");
  await writeFile(join(volumes, "data.ext4"), "data");
  for (const instance of [kept, gone]) await store.remove(addressOf(instance));
  assert.deepEqual((await store.load()).tenants[0]?.instances, []);
  assert.deepEqual(await readdir(pathOf(roots, "acme/pools/web/instances")), ["i-00000009"]);
  assert.deepEqual(await readdir(volumes), ["data.ext4"]);
});

test("removing a tenant with all it has leaves nothing, and doing it again is no error", async () => {
  await using roots = await TemporaryRoots.make();
  const store = await filledStore(roots);
  const tenant = parseTenantId("acme");
  const [records] = (await store.load()).tenants;
  for (let time = 0; time < 2; time += 1) {
    for (const instance of records?.instances ?? []) await store.remove(addressOf(instance));
    for (const pool of records?.pools ?? []) await store.remove({ tenant, pool: pool.pool_id });
    await store.remove({ tenant });
  }
  assert.deepEqual(await readdir(pathOf(roots)), ["zenith"]);
});

test("net ids that were used are remembered for good", async () => {
  await using roots = await TemporaryRoots.make();
  const store = new FileStore(roots);
  await filledStore(roots);
  assert.deepEqual(await store.useNetId(7), new Set([7]));
  assert.deepEqual(await store.useNetId(3), new Set([3, 7]));
  assert.deepEqual(await new FileStore(roots).useNetId(undefined), new Set([3, 7]));
});

const storeModule = new URL("../../../../src/host/store/file-store.ts", import.meta.url).href;

/** Another process that saves one instance again and again, as large or small, until it is killed. */
const writerScript = `
const { FileStore } = await import(${JSON.stringify(storeModule)});
const { roots, record } = JSON.parse(process.argv[1]);
const store = new FileStore(roots);
const since = record.created_at;
for (let count = 0; ; count += 1) {
  const console = Array.from({ length: (count % 2) * 2000 }, () => "a line of some length");
  await store.saveInstance({ ...record, failures: count, state: { status: "failed", since, cause: "x", console } });
  if (count === 3) process.stdout.write("writing");
}`;

test("whenever a writer is killed, the record is whole: what it was before or after", async () => {
  await using roots = await TemporaryRoots.make();
  const store = await filledStore(roots);
  const record: Instance = anInstance("web", 2, "failed");
  for (let round = 0; round < 12; round += 1) {
    const argument = JSON.stringify({ roots, record });
    const writer = spawn(process.execPath, ["--input-type=module", "-e", writerScript, argument], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(writer.stdout, "data");
    await delay(round * 3);
    const ended = once(writer, "exit");
    writer.kill("SIGKILL");
    await ended;
    const { tenants, corrupt } = await store.load();
    assert.deepEqual(corrupt, []);
    const found = tenants[0]?.instances.find(
      ({ instance_id }) => instance_id === record.instance_id,
    );
    assert.ok(found?.state.status === "failed");
    assert.equal(found.state.console.length, (found.failures % 2) * 2000);
  }
});

test("a folder in the place of a record is reported, and the rest is loaded", async () => {
  await using roots = await TemporaryRoots.make();
  const store = await filledStore(roots);
  await rm(pathOf(roots, "acme", "tenant.json"));
  await mkdir(pathOf(roots, "acme", "tenant.json"));
  const { tenants, corrupt } = await store.load();
  assert.deepEqual(
    tenants.map(({ tenant }) => tenant.tenant_id),
    [zenith],
  );
  assert.match(corrupt[0]?.problem ?? "", /EISDIR/);
});

test("a list of used networks that cannot be read is an error that names it", async () => {
  await using roots = await TemporaryRoots.make();
  const store = await filledStore(roots);
  await writeFile(join(roots.stateDir, "networks.json"), '{"used": [1');
  await assert.rejects(store.useNetId(2), /networks\.json cannot be used: it is no JSON/);
});

test("a record that an older mvm wrote is read, and written in today's form with its next change", async () => {
  await using roots = await TemporaryRoots.make();
  const store = await filledStore(roots);
  const path = pathOf(roots, "acme/tenant.json");
  const { pinned: _, override_until: __, ...old } = aTenant();
  await writeFile(path, JSON.stringify({ ...old, schema_version: 1 }));
  const { tenants, corrupt } = await store.load();
  assert.deepEqual(corrupt, []);
  assert.deepEqual(tenants[0]?.tenant, aTenant());
  assert.match(await readFile(path, "utf8"), /"schema_version":1/, "reading changes no file");
  await store.saveTenant(aTenant());
  assert.match(await readFile(path, "utf8"), /"schema_version": 2/);
});

test("what writers that died left half-written is removed by the next change of that tenant", async () => {
  await using roots = await TemporaryRoots.make();
  await filledStore(roots);
  const left = [
    "acme/.tenant.json.0123456789ab.tmp",
    "acme/.audit.head.0123456789ab.tmp",
    "acme/pools/web/.pool.json.0123456789ab.tmp",
    "acme/pools/web/instances/i-00000002/.instance.json.0123456789ab.tmp",
    "acme/pools/web/instances/i-00000077/.instance.json.0123456789ab.tmp",
    "zenith/.tenant.json.0123456789ab.tmp",
  ];
  await mkdir(pathOf(roots, "acme/pools/web/instances/i-00000077"));
  for (const name of left) await writeFile(pathOf(roots, name), "{");
  const kept = "acme/pools/web/instances/i-00000002/data.ext4.tmp";
  await writeFile(pathOf(roots, kept), "not the store's");
  const store = new FileStore(roots);
  await store.load();
  assert.equal((await temporaryFiles(roots)).length, left.length + 1, "reading removes nothing");
  await store.savePool(aPool("db"));
  assert.deepEqual(await temporaryFiles(roots), [kept, "zenith/.tenant.json.0123456789ab.tmp"]);
  assert.deepEqual(await readdir(pathOf(roots, "acme/pools/web/instances")), [
    "i-00000002",
    "i-00000009",
  ]);
});

async function temporaryFiles(roots: TemporaryRoots): Promise<string[]> {
  const names = await readdir(pathOf(roots), { recursive: true });
  return names.filter((name) => name.endsWith(".tmp")).toSorted();
}
