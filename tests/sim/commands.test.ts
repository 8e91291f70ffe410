import assert from "node:assert/strict";
import { test } from "node:test";
import { ConflictError, OperationError } from "../../src/domain/errors.ts";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf } from "../../src/domain/instance.ts";
import { findTemplate } from "../../src/domain/templates.ts";
import { deployTemplate } from "../../src/node/deploy.ts";
import { operatorStart, operatorStop } from "../../src/node/instances.ts";
import { createPool, scalePool } from "../../src/node/pools.ts";
import { createTenant, destroyTenant } from "../../src/node/tenants.ts";
import { FakeHost } from "../fakes/fake-host.ts";
import { assertConverged, assertNothingLeaked } from "./checkers.ts";
import { helloPool, withStatus } from "./hello-pool.ts";

const tenant = parseTenantId("demo");
const template = findTemplate("openclaw");
const workers = { tenant, pool: parsePoolId("workers") };

async function deployed(): Promise<FakeHost> {
  const host = new FakeHost();
  await deployTemplate(host.context(), { tenant, template });
  return host;
}

test("a warm instance is not started a second time", async () => {
  const host = await deployed();
  const warm = withStatus(host, "warm");
  await assert.rejects(operatorStart(host.context(), addressOf(warm)), ConflictError);
  assertNothingLeaked(host, "start of a warm instance");
  assert.equal(host.living().length, 4);
});

test("an interrupted command changes nothing after it has given the tenant back", async () => {
  const host = await deployed();
  const interrupt = new AbortController();
  let stops = 0;
  host.turns = (call) => {
    if (call !== "vmm.stop") return 0;
    stops += 1;
    interrupt.abort(new Error("interrupted"));
    // The second of the two that go on side by side is still at work when the first is done.
    return stops === 2 ? 20 : 0;
  };
  const scaling = scalePool(host.context(interrupt.signal), workers, { running: 0, warm: 0 });
  await assert.rejects(scaling, /interrupted/);
  const before = host.calls.length;
  for (let turn = 0; turn < 50; turn += 1) await new Promise(setImmediate);
  assert.deepEqual(host.calls.slice(before), []);
});

test("a deployment that exists refuses flags that ask for another network or flake", async () => {
  const host = await deployed();
  const again = (other: object): Promise<unknown> =>
    deployTemplate(host.context(), { tenant, template, ...other });
  await assert.rejects(again({ netId: 77 }), /net id 1/);
  await assert.rejects(again({ subnet: "10.240.9.0/24" }), /net id 1/);
  await assert.rejects(again({ flakeRef: "path:/elsewhere" }), /builtin:openclaw/);
  await again({ netId: 1, subnet: "10.240.1.0/24", flakeRef: "builtin:openclaw" });
});

test("nothing is made or removed beside a record that cannot be read", async () => {
  const host = await deployed();
  host.corrupt.push({ path: "/state/tenants/demo/pools/other/pool.json", problem: "cut off" });
  const bridges = new Set(host.bridges);
  await assert.rejects(
    createPool(host.context(), helloPool({ tenant, pool: parsePoolId("other") })),
    /cut off/,
  );
  await assert.rejects(
    destroyTenant(host.context(), tenant, { force: true, wipe: true }),
    /cut off/,
  );
  assert.deepEqual(host.bridges, bridges);
  assert.equal(host.living().length, 4);
});

test("no instance is made beside a record that cannot be read, which may have its address", async () => {
  const host = await deployed();
  const path = "/state/tenants/demo/pools/workers/instances/i-0badc0de/instance.json";
  host.corrupt.push({ path, problem: "cut off" });
  const before = host.records().tenants[0]?.instances.length;
  const { converged, failures } = await scalePool(host.context(), workers, { running: 3, warm: 1 });
  assert.equal(converged, false);
  assert.match(failures[0]?.cause ?? "", /i-0badc0de\/instance\.json cannot be used: cut off/);
  assert.match(failures[0]?.hint ?? "", /restore it from a backup/);
  assert.equal(host.records().tenants[0]?.instances.length, before);
  host.corrupt.pop();
  const again = await scalePool(host.context(), workers, { running: 3, warm: 1 });
  assert.equal(again.converged, true, "and it goes on when the record is there again");
});

test("a VMM whose record is gone is ended by the next command, with all it had", async () => {
  const host = await deployed();
  const lost = withStatus(host, "running");
  host.forget(lost.instance_id);
  await deployTemplate(host.context(), { tenant, template });
  assert.ok(!host.living().some(({ id }) => id === lost.instance_id));
  assertConverged(host, "an orphan");
});

test("a VMM without a record is left alone while some record cannot be read", async () => {
  const host = await deployed();
  const lost = withStatus(host, "running");
  host.forget(lost.instance_id);
  host.corrupt.push({ path: "/state/tenants/demo/pools/workers/pool.json", problem: "cut off" });
  await scalePool(host.context(), workers, {});
  assert.ok(host.living().some(({ id }) => id === lost.instance_id));
});

test("the net id of a tenant whose record cannot be read is given to nobody", async () => {
  const host = await deployed();
  const node = host.context();
  await node.store.useNetId(7);
  host.corrupt.push({ path: "/state/tenants/broken/tenant.json", problem: "cut off" });
  const other = parseTenantId("other");
  await assert.rejects(createTenant(node, { tenant: other, netId: 7 }), (error) => {
    assert.ok(error instanceof ConflictError);
    assert.match(error.message, /net id 7 .*broken\/tenant\.json/);
    return true;
  });
  assert.equal((await createTenant(node, { tenant: other })).net_id, 2);
  const third = parseTenantId("third");
  assert.equal((await createTenant(node, { tenant: third, netId: 9 })).net_id, 9);
});

test("a guest whose agent never answers is failed with its cause, and nothing of it is left", async () => {
  const host = await deployed();
  const stopped = withStatus(host, "running");
  await operatorStop(host.context(), addressOf(stopped));
  host.deafGuests.add(stopped.instance_id);
  await assert.rejects(operatorStart(host.context(), addressOf(stopped)), (error) => {
    assert.ok(error instanceof OperationError);
    assert.match(error.message, /booted no guest agent/);
    assert.match(error.hint ?? "", /logs .* --console/);
    return true;
  });
  const failed = withStatus(host, "failed");
  assert.equal(failed.instance_id, stopped.instance_id);
  assertNothingLeaked(host, "a deaf guest");
});
