import assert from "node:assert/strict";
import { test } from "node:test";
import { ConflictError, NotFoundError, OperationError } from "../../src/domain/errors.ts";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf, vmmOf } from "../../src/domain/instance.ts";
import type { Pool } from "../../src/domain/pool.ts";
import { operatorStart, operatorStop } from "../../src/node/instances.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import { FakeHost } from "../fakes/fake-host.ts";

const address = { tenant: parseTenantId("acme"), pool: parsePoolId("web") };

/** A pool that was built `builds` times, each from a changed flake, with one instance of the first image. */
async function poolBuilt(builds: number): Promise<{ host: FakeHost; node: NodeOperations }> {
  const host = new FakeHost();
  const node = new NodeOperations(host.context());
  await node.createTenant({ tenant: address.tenant });
  await node.createPool({
    address,
    role: "worker",
    flakeRef: "path:/app",
    profile: "minimal",
    resources: { vcpus: 1, mem_mib: 512, data_disk_mib: 0 },
  });
  await node.scalePool(address, { running: 1 });
  for (let build = 1; build < builds; build += 1) {
    host.flakeEdits += 1;
    await node.buildPool(address);
  }
  return { host, node };
}

function poolOf(host: FakeHost): Pool {
  const pool = host.records().tenants[0]?.pools[0];
  assert.ok(pool);
  return pool;
}

function runningRevision(host: FakeHost): string | undefined {
  const instance = host.records().tenants[0]?.instances[0];
  return instance === undefined ? undefined : vmmOf(instance)?.revision;
}

test("a pool keeps its last five images, and one that an instance still runs from stays in the store", async () => {
  const { host, node } = await poolBuilt(8);
  const { revisions } = poolOf(host);
  assert.equal(revisions.length, 5);
  const first = runningRevision(host);
  assert.ok(first !== undefined && !revisions.includes(first), "it runs from the first of eight");
  assert.deepEqual(host.images, new Set([...revisions, first]));

  const [instance] = host.records().tenants[0]?.instances ?? [];
  assert.ok(instance);
  await operatorStop(host.context(), addressOf(instance));
  host.flakeEdits += 1;
  await node.buildPool(address);
  assert.deepEqual(host.images, new Set(poolOf(host).revisions));
});

test("a rollback makes an earlier image current without a build, and running instances keep theirs until they start again", async () => {
  const { host, node } = await poolBuilt(3);
  const [newest, middle, oldest] = poolOf(host).revisions;
  assert.ok(newest !== undefined && middle !== undefined && oldest !== undefined);
  const before = host.calls.length;
  assert.equal(await node.rollbackPool(address, middle), middle);
  assert.deepEqual(poolOf(host).revisions, [middle, newest, oldest]);
  assert.ok(!host.calls.slice(before).some((call) => call.startsWith("builder.")));
  assert.equal(runningRevision(host), oldest);

  const [instance] = host.records().tenants[0]?.instances ?? [];
  assert.ok(instance);
  await operatorStop(host.context(), addressOf(instance));
  await operatorStart(host.context(), addressOf(instance));
  assert.equal(runningRevision(host), middle);

  const info = await node.pool(address);
  assert.deepEqual(
    info.images.map(({ hash, current, present, instances }) => [hash, current, present, instances]),
    [
      [middle, true, true, 1],
      [newest, false, true, 0],
      [oldest, false, true, 0],
    ],
  );
});

test("a rollback that is only tried changes nothing", async () => {
  const { host, node } = await poolBuilt(2);
  const { revisions } = poolOf(host);
  assert.equal(await node.planRollback(address, revisions[1] ?? ""), revisions[1]);
  assert.deepEqual(poolOf(host).revisions, revisions);
});

test("a rollback names what cannot be meant: no image of the pool, or several", async () => {
  const { host, node } = await poolBuilt(2);
  const { revisions } = poolOf(host);
  await assert.rejects(node.rollbackPool(address, "ffff"), (error) => {
    assert.ok(error instanceof NotFoundError);
    assert.match(error.hint ?? "", new RegExp(revisions[0]?.slice(0, 12) ?? "none"));
    return true;
  });
  await assert.rejects(node.rollbackPool(address, "3"), ConflictError);
  assert.deepEqual(poolOf(host).revisions, revisions);
});

test("a build that fails leaves the current image in place", async () => {
  const { host, node } = await poolBuilt(2);
  const { revisions } = poolOf(host);
  host.flakeEdits += 1;
  host.fault = (call) => (call === "builder.build" ? "fail" : "none");
  await assert.rejects(node.buildPool(address), OperationError);
  assert.deepEqual(poolOf(host).revisions, revisions);
  assert.ok(revisions.every((hash) => host.images.has(hash)));
});

test("a rollback that dies at any point leaves one of the two images current, and done again is done", async () => {
  const { host } = await poolBuilt(2);
  const revisions = poolOf(host).revisions;
  const other = revisions[1] ?? "";
  for (const fault of ["crash-before", "crash-after"] as const) {
    for (const at of ["images.files", "store.save", "images.link"]) {
      host.fault = (call) => (call === at ? fault : "none");
      await assert.rejects(new NodeOperations(host.context()).rollbackPool(address, other));
      assert.deepEqual(poolOf(host).revisions.toSorted(), revisions.toSorted(), `${fault} ${at}`);
    }
  }
  host.fault = () => "none";
  await new NodeOperations(host.context()).rollbackPool(address, other);
  assert.equal(poolOf(host).revisions[0], other);
});

test("an image that another command removed before it was recorded is built again", async () => {
  const { host, node } = await poolBuilt(1);
  host.flakeEdits += 1;
  let builds = 0;
  host.fault = (call) => {
    if (call === "builder.build") builds += 1;
    if (call === "images.files" && builds === 1) (host.images as Set<string>).clear();
    return "none";
  };
  const { hash } = await node.buildPool(address);
  assert.equal(builds, 2);
  assert.equal(poolOf(host).revisions[0], hash);
});
