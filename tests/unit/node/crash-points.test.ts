import assert from "node:assert/strict";
import { test } from "node:test";
import { CrashPoints } from "../../../src/node/crash-points.ts";
import { FakeHost } from "../../fakes/fake-host.ts";
import { aPool, aTenant, anInstance, imageHash } from "../../builders/records.ts";

class Died extends Error {}

test("a point is passed after its work is done, and never when it failed", async () => {
  const host = new FakeHost();
  const passed: string[] = [];
  const points = new CrashPoints((point) => {
    passed.push(point);
    throw new Died(point);
  });
  const store = points.store(host.context().store);
  await assert.rejects(store.saveTenant(aTenant()), Died);
  assert.equal(host.records().tenants.length, 1);
  host.fault = () => "fail";
  await assert.rejects(store.saveTenant(aTenant()), /store.save failed/);
  assert.deepEqual(passed, ["tenant"]);
});

test("points are named for what was written down or done", async () => {
  const host = new FakeHost();
  const passed: string[] = [];
  const points = new CrashPoints((point) => void passed.push(point));
  const context = host.context();
  const store = points.store(context.store);
  await store.useNetId(1);
  await store.saveTenant(aTenant({ destroying: true }));
  await store.savePool(aPool("web", { revisions: [] }));
  await store.savePool(aPool("web", { revisions: [imageHash] }));
  const operation = { kind: "start", started_at: "", step: "vmm" } as const;
  const instance = anInstance("web", 2, "ready", { operation });
  await store.saveInstance(instance);
  await store.saveInstance(anInstance("web", 2, "running"));
  await store.remove({ tenant: instance.tenant_id });
  await store.load();
  await points.network(context.network).apply([]);
  assert.deepEqual(passed, [
    "net-id:used",
    "tenant:destroying",
    "pool",
    "pool:image",
    "start:vmm",
    "instance:running",
    "tenant:removed",
    "network:applied",
  ]);
});

test("without a wish to die the ports are the adapters themselves", () => {
  const points = new CrashPoints(undefined);
  const { store, vmm } = new FakeHost().context();
  assert.equal(points.store(store), store);
  assert.equal(points.vmm(vmm), vmm);
});
