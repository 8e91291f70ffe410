import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf, vmmOf } from "../../src/domain/instance.ts";
import { settleInstance } from "../../src/node/actions/settle.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import type { ReconcileResult } from "../../src/node/reconcile.ts";
import {
  type WrittenDocument,
  type WrittenPool,
  bytesOf,
  guide,
  guideDocument,
  writtenDocument,
  writtenPool,
  writtenTenant,
} from "../builders/documents.ts";
import { secretsHash } from "../../src/protocol/secrets-hash.ts";
import { CrashError, FakeHost, imageOfFlake } from "../fakes/fake-host.ts";
import { auditEvents } from "./audit-events.ts";
import { assertAuditWhole, assertConverged, assertNothingLeaked } from "./checkers.ts";
import { helloPool } from "./hello-pool.ts";

const acme = parseTenantId("acme");
const myapp = parseTenantId("myapp");
const minutes = 60_000;

/** Brings a host to a document, as `mvm agent reconcile` does. */
async function reconcile(
  host: FakeHost,
  document: WrittenDocument,
  prune = false,
): Promise<ReconcileResult> {
  const node = new NodeOperations(host.context());
  return node.reconcileDesired({ document: bytesOf(document) }, { prune });
}

/** A document of the tenant acme with one pool of workers. */
function acmeWeb(
  changes: WrittenPool = {},
  ofTenant: Parameters<typeof writtenTenant>[3] = {},
): WrittenDocument {
  return writtenDocument([writtenTenant("acme", 3, [writtenPool("web", changes)], ofTenant)]);
}

function counts(running: number, warm = 0): WrittenPool {
  return { desired_counts: { running, warm, sleeping: 0 } };
}

async function planned(host: FakeHost): Promise<readonly { kind: string; object: string }[]> {
  const { actions } = await new NodeOperations(host.context()).planDesired(undefined, {
    prune: false,
  });
  return actions;
}

test("the onboarding guide's document plans one tenant with two pools, gateway first", async () => {
  const host = new FakeHost();
  const node = new NodeOperations(host.context());
  const request = { document: guideDocument };
  const { actions, held } = await node.planDesired(request, { prune: false });
  assert.deepEqual(actions, [
    { kind: "apply-tenant", object: "myapp" },
    { kind: "apply-pool", object: "myapp/gateways" },
    { kind: "apply-pool", object: "myapp/workers" },
  ]);
  assert.deepEqual(held, []);
  assert.equal(host.records().tenants.length, 0, "a plan changes nothing");
  assert.equal(host.desired, undefined);
});

test("the onboarding guide's document converges, and a second pass plans nothing", async () => {
  const host = new FakeHost();
  const result = await reconcile(host, guide());
  assert.deepEqual(result, { converged: true, held: [], failures: [] });
  assertConverged(host, "guide");
  assert.equal(host.living().length, 4);
  const [records] = host.records().tenants;
  assert.equal(records?.tenant.managed_by, "document");
  assert.equal(records.tenant.net_id, 1);
  assert.deepEqual(
    records.pools.map(({ managed_by }) => managed_by),
    ["document", "document"],
  );
  const before = host.calls.length;
  assert.deepEqual(await planned(host), []);
  await reconcile(host, guide());
  const again = host.calls.slice(before);
  assert.deepEqual(
    again.filter((call) => /vmm\.st|store\.save|network\.apply|builder\.build/.test(call)),
    [],
  );
});

test("gateways serve before a worker is started", async () => {
  const host = new FakeHost();
  await reconcile(host, guide());
  const events = await auditEvents(host, myapp);
  const started = events.find(({ fields }) => fields["to"] === "running");
  assert.match(started?.object ?? "", /^myapp\/gateways\//);
});

test("counts, quotas and policies follow the document", async () => {
  const host = new FakeHost();
  await reconcile(host, acmeWeb(counts(3, 1)));
  assertConverged(host, "3 and 1");
  host.nowMs += 2 * minutes;
  const policy = { runtime_policy: { min_running_seconds: 5 } };
  const smaller = acmeWeb({ ...counts(1), ...policy }, { quota: { max_running: 7 } });
  assert.equal((await reconcile(host, smaller)).converged, true);
  assertConverged(host, "1");
  const [records] = host.records().tenants;
  assert.equal(records?.tenant.quotas.max_running, 7);
  assert.equal(records.pools[0]?.runtime_policy.min_running_seconds, 5);
});

test("the newest surplus is stopped first", async () => {
  const host = new FakeHost();
  await reconcile(host, acmeWeb(counts(3)));
  host.nowMs += 2 * minutes;
  await reconcile(host, acmeWeb(counts(1)));
  const [first] = host.records().tenants[0]?.instances ?? [];
  assert.equal(first?.state.status, "running");
});

test("what a quota forbids is held, and the rest is done", async () => {
  const host = new FakeHost();
  const document = acmeWeb(counts(3), { quota: { max_running: 2 } });
  const result = await reconcile(host, document);
  assert.equal(result.converged, false);
  assert.deepEqual(
    result.held.map(({ object, reason }) => [object, reason]),
    [["acme/web", "quota"]],
  );
  assert.equal(host.living().length, 2);
});

test("more pools than a tenant's quota allows are held by name", async () => {
  const host = new FakeHost();
  const document = writtenDocument([
    writtenTenant("acme", 3, [writtenPool("a"), writtenPool("b")], { quota: { max_pools: 1 } }),
  ]);
  const { held } = await reconcile(host, document);
  assert.deepEqual(
    held.map(({ object, reason }) => [object, reason]),
    [["acme/b", "quota"]],
  );
});

describe("pruning", () => {
  const two = writtenDocument([
    writtenTenant("acme", 3, [writtenPool("web"), writtenPool("jobs")]),
    writtenTenant("other", 4, [writtenPool("web")]),
  ]);
  const one = acmeWeb();

  test("does nothing unless the document asks for it", async () => {
    const host = new FakeHost();
    await reconcile(host, two);
    host.nowMs += 2 * minutes;
    assert.equal((await reconcile(host, one)).converged, true);
    assert.equal(host.living().length, 3);
  });

  test("stops and removes unknown pools and tenants, and nothing of theirs is left but data", async () => {
    const host = new FakeHost();
    await reconcile(host, two);
    host.nowMs += 2 * minutes;
    const result = await reconcile(host, {
      ...one,
      prune_unknown_tenants: true,
      prune_unknown_pools: true,
    });
    assert.equal(result.converged, true, JSON.stringify(result));
    assert.deepEqual(
      host
        .records()
        .tenants.map(({ tenant, pools }) => [
          tenant.tenant_id,
          pools.map(({ pool_id }) => pool_id),
        ]),
      [["acme", ["web"]]],
    );
    assertNothingLeaked(host, "pruned");
    assert.equal(host.living().length, 1);
    const kinds = (await auditEvents(host, parseTenantId("other"))).map(({ type, fields }) =>
      type === "InstanceTransition" ? `to ${String(fields["to"])}` : type,
    );
    assert.deepEqual(kinds.slice(-4), [
      "to stopped",
      "to destroyed",
      "PoolDestroyed",
      "TenantDestroyed",
    ]);
  });

  test("can be asked for by the command", async () => {
    const host = new FakeHost();
    await reconcile(host, two);
    host.nowMs += 2 * minutes;
    await reconcile(host, one, true);
    assert.equal(host.records().tenants.length, 1);
  });

  test("never touches what is managed on this node", async () => {
    const host = new FakeHost();
    const node = new NodeOperations(host.context());
    const mine = parseTenantId("mine");
    await node.createTenant({ tenant: mine, netId: 9 });
    const pool = { tenant: mine, pool: parsePoolId("web") };
    await node.createPool(helloPool(pool));
    await node.scalePool(pool, { running: 1 });
    await reconcile(host, two);
    await node.createPool(helloPool({ tenant: acme, pool: parsePoolId("mine") }));
    host.nowMs += 2 * minutes;
    const { held } = await reconcile(host, writtenDocument([]), true);
    assert.deepEqual(
      held.map(({ reason, object }) => [reason, object]),
      [["clash", "acme"]],
    );
    assert.deepEqual(
      host
        .records()
        .tenants.map(({ tenant, pools }) => [
          tenant.tenant_id,
          pools.map(({ pool_id }) => pool_id),
        ]),
      [
        ["mine", ["web"]],
        ["acme", ["mine"]],
      ],
    );
  });

  test("leaves pinned tenants, critical pools and what an operator took over", async () => {
    const host = new FakeHost();
    const document = writtenDocument([
      { ...writtenTenant("pinned", 3, [writtenPool("web")]), pinned: true },
      writtenTenant("critical", 4, [writtenPool("web", { critical: true })]),
      writtenTenant("taken", 5, [writtenPool("web")]),
    ]);
    await reconcile(host, document);
    const node = new NodeOperations(host.context());
    const update = { dryRun: false, overrideMs: 10 * minutes };
    await node.updateTenant(parseTenantId("taken"), {}, update);
    host.nowMs += 2 * minutes;
    const { held } = await reconcile(host, writtenDocument([]), true);
    assert.deepEqual(held.map(({ object, reason }) => `${object} ${reason}`).toSorted(), [
      "critical/web critical",
      "pinned/web pinned",
      "taken document-overridden",
    ]);
    assert.equal(host.living().length, 3);
  });

  test("frees a network for the tenant that has it next", async () => {
    const host = new FakeHost();
    await reconcile(host, acmeWeb());
    host.nowMs += 2 * minutes;
    const next = writtenDocument([writtenTenant("heir", 3, [writtenPool("web")])], {
      prune_unknown_tenants: true,
    });
    assert.equal((await reconcile(host, next)).converged, true);
    assert.deepEqual(
      host.records().tenants.map(({ tenant }) => tenant.tenant_id),
      ["heir"],
    );
  });
});

describe("an operator's override", () => {
  test("holds the document back until it ends", async () => {
    const host = new FakeHost();
    await reconcile(host, acmeWeb());
    const web = { tenant: acme, pool: parsePoolId("web") };
    const node = new NodeOperations(host.context());
    await node.scalePool(web, { running: 2 }, 10 * minutes);
    host.nowMs += 2 * minutes;
    const { held } = await reconcile(host, acmeWeb());
    assert.deepEqual(
      held.map(({ reason }) => reason),
      ["document-overridden"],
    );
    assert.equal(host.living().length, 2);
    host.nowMs += 10 * minutes;
    assert.equal((await reconcile(host, acmeWeb())).converged, true);
    assert.equal(host.living().length, 1);
  });
});

describe("a rolling update", () => {
  const quick = { runtime_policy: { min_running_seconds: 0, min_warm_seconds: 0 } };
  const imageA = imageOfFlake("path:/a");
  const imageB = imageOfFlake("path:/b");

  async function updated(
    host: FakeHost,
    from: WrittenPool,
    to: WrittenPool,
  ): Promise<ReconcileResult> {
    await reconcile(host, acmeWeb({ ...quick, flake_ref: "path:/a", ...from }));
    host.nowMs += 2 * minutes;
    return reconcile(host, acmeWeb({ ...quick, flake_ref: "path:/b", ...to }));
  }

  function revisions(host: FakeHost): string[] {
    return host.living().map(({ rootfs }) => rootfs);
  }

  test("exchanges every instance for one with the new image, spares too", async () => {
    const host = new FakeHost();
    const result = await updated(host, counts(3, 1), counts(3, 1));
    assert.deepEqual(result, { converged: true, held: [], failures: [] });
    assert.deepEqual(revisions(host), [imageB, imageB, imageB, imageB]);
    assertConverged(host, "updated");
    assert.deepEqual(await planned(host), []);
    const [pool] = host.records().tenants[0]?.pools ?? [];
    assert.equal(pool?.good_revision, imageB);
  });

  for (const most of [1, 2]) {
    test(`misses no more than ${most} at once, and begins the next when the one before is healthy`, async () => {
      const host = new FakeHost();
      let fewest = Infinity;
      const healthy = (): number =>
        host.living().filter((vmm) => host.nowMs - vmm.startedAtMs >= 20_000).length;
      const strategy = { update_strategy: { max_unavailable: most } };
      await reconcile(host, acmeWeb({ ...quick, ...counts(4), ...strategy, flake_ref: "path:/a" }));
      host.nowMs += 2 * minutes;
      host.fault = () => {
        fewest = Math.min(fewest, healthy());
        return "none";
      };
      await reconcile(host, acmeWeb({ ...quick, ...counts(4), ...strategy, flake_ref: "path:/b" }));
      assert.deepEqual(new Set(revisions(host)), new Set([imageB]));
      assert.equal(fewest, 4 - most);
    });
  }

  test("of resources exchanges instances too", async () => {
    const host = new FakeHost();
    await updated(host, counts(2), {
      ...counts(2),
      flake_ref: "path:/a",
      instance_resources: { vcpus: 2, mem_mib: 512, data_disk_mib: 0 },
    });
    const resources = host.records().tenants[0]?.instances.map((instance) => instance.resources);
    assert.deepEqual(
      resources?.map((has) => [has?.vcpus, has?.mem_mib]),
      [
        [2, 512],
        [2, 512],
      ],
    );
  });

  test("to an image whose instances do not become healthy goes back to the last good one, and stays there", async () => {
    const host = new FakeHost();
    host.badImages.add(imageB);
    const strategy = { update_strategy: { health_timeout_seconds: 60 } };
    const { held } = await updated(
      host,
      { ...counts(3), ...strategy },
      { ...counts(3), ...strategy },
    );
    assert.deepEqual(revisions(host), [imageA, imageA, imageA]);
    assert.deepEqual(
      held.map(({ reason }) => reason),
      ["rolled-back"],
    );
    const [pool] = host.records().tenants[0]?.pools ?? [];
    assert.equal(pool?.rejected_revision, imageB);
    const event = (await auditEvents(host, acme)).find(({ type }) => type === "ImageRolledBack");
    assert.equal(event?.fields["from"], imageB);
    host.nowMs += 60 * minutes;
    assert.deepEqual(await planned(host), []);
    const repaired = acmeWeb({ ...quick, ...counts(3), ...strategy, flake_ref: "path:/c" });
    assert.equal((await reconcile(host, repaired)).converged, true);
    assert.deepEqual(new Set(revisions(host)), new Set([imageOfFlake("path:/c")]));
  });

  test("touches one spare before any instance that serves, so that a bad image never costs one", async () => {
    const host = new FakeHost();
    host.badImages.add(imageB);
    const strategy = { update_strategy: { health_timeout_seconds: 60 } };
    const pool = { ...counts(2, 1), ...strategy };
    await reconcile(host, acmeWeb({ ...quick, ...pool, flake_ref: "path:/a" }));
    host.nowMs += 2 * minutes;
    const serving = host.living().filter(({ paused }) => !paused);
    await reconcile(host, acmeWeb({ ...quick, ...pool, flake_ref: "path:/b" }));
    assert.ok(serving.every(({ alive }) => alive));
    assert.deepEqual(new Set(revisions(host)), new Set([imageA]));
  });

  test("without rollback stops at the first that is not well", async () => {
    const host = new FakeHost();
    host.badImages.add(imageB);
    const strategy = { update_strategy: { health_timeout_seconds: 60, rollback: false } };
    const { held } = await updated(
      host,
      { ...counts(3), ...strategy },
      { ...counts(3), ...strategy },
    );
    assert.ok(
      held.some(({ reason }) => reason === "waiting-for-update"),
      JSON.stringify(held),
    );
    assert.deepEqual(revisions(host).toSorted(), [imageA, imageA, imageB].toSorted());
  });

  test("leaves instances of a critical pool and of a pinned tenant as they are", async () => {
    const host = new FakeHost();
    await updated(host, { ...counts(2), critical: true }, { ...counts(2), critical: true });
    assert.deepEqual(revisions(host), [imageA, imageA]);
    const pool = { ...quick, ...counts(2), flake_ref: "path:/b" };
    const pinned = acmeWeb(pool, { pinned: true });
    await reconcile(host, pinned);
    assert.deepEqual(revisions(host), [imageA, imageA]);
  });

  test("knows what a VMM runs whose start was interrupted, whatever became current since", async () => {
    const host = new FakeHost();
    host.fault = (call) => (call === "vmm.start" ? "crash-after" : "none");
    const document = acmeWeb({ ...quick, ...counts(1), flake_ref: "path:/a" });
    await assert.rejects(reconcile(host, document), CrashError);
    host.fault = () => "none";
    const [pool] = host.records().tenants[0]?.pools ?? [];
    assert.ok(pool);
    host.putPool({ ...pool, revisions: [imageB, imageA] });
    const [instance] = host.records().tenants[0]?.instances ?? [];
    assert.ok(instance);
    await settleInstance(host.context(), addressOf(instance));
    const adopted = host.records().tenants[0]?.instances[0];
    assert.ok(adopted);
    assert.equal(vmmOf(adopted)?.revision, imageA);
  });

  test("whose build fails leaves what runs in place", async () => {
    const host = new FakeHost();
    await reconcile(host, acmeWeb({ ...quick, ...counts(2), flake_ref: "path:/a" }));
    host.fault = (call) => (call === "builder.build" ? "fail" : "none");
    const result = await reconcile(host, acmeWeb({ ...quick, ...counts(2), flake_ref: "path:/b" }));
    assert.equal(result.converged, false);
    assert.deepEqual(revisions(host), [imageA, imageA]);
    assert.match(result.failures[0]?.cause ?? "", /builder\.build failed/);
  });
});

test("secrets that are not those the coordinator expects are reported", async () => {
  const host = new FakeHost();
  const document = acmeWeb({}, { secrets_hash: secretsHash({ TOKEN: "a" }) });
  const { held } = await reconcile(host, document);
  assert.deepEqual(
    held.map(({ reason }) => reason),
    ["secrets-out-of-date"],
  );
  const node = new NodeOperations(host.context());
  await node.setSecrets(acme, { TOKEN: "a" }, minutes);
  host.nowMs += 2 * minutes;
  assert.equal((await reconcile(host, document)).converged, true);
});

test("what this version does not do is named", async () => {
  const host = new FakeHost();
  const { held } = await reconcile(host, acmeWeb({ sleep_policy: { enabled: true } }));
  assert.equal(held[0]?.reason, "not-supported");
  assert.match(held[0].detail, /sleep_policy/);
});

test("a tenant that fails does not hold up another", async () => {
  const host = new FakeHost();
  const document = writtenDocument([
    writtenTenant("bad", 3, [writtenPool("web", { flake_ref: "path:/bad" })]),
    writtenTenant("good", 4, [writtenPool("web")]),
  ]);
  host.badFlakes.add("path:/bad");
  const result = await reconcile(host, document);
  assert.deepEqual(
    host.records().tenants.map(({ instances }) => instances.length),
    [0, 1],
  );
  assert.deepEqual(
    result.failures.map(({ object }) => object),
    ["bad/web"],
  );
  await assertAuditWhole(host, "two tenants");
});
