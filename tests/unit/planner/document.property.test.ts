import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Arbitrary,
  array,
  assert as checkProperty,
  boolean,
  constantFrom,
  integer,
  property,
  record,
} from "fast-check";
import { differingFields } from "../../../src/domain/desired-pool.ts";
import { parseDesiredState } from "../../../src/domain/desired-state-schema.ts";
import type { DesiredState } from "../../../src/domain/desired-state.ts";
import { formatInstance } from "../../../src/domain/ids.ts";
import { vmmOf } from "../../../src/domain/instance.ts";
import { plan } from "../../../src/planner/plan.ts";
import { bytesOf, writtenDocument, writtenPool, writtenTenant } from "../../builders/documents.ts";
import { ModelHost } from "../../builders/model-host.ts";
import { aPool, aTenant, anInstance, imageHash, observed, seen } from "../../builders/records.ts";

const runs = { numRuns: 300 };
const badFlake = "path:/bad";

interface Wanted {
  readonly running: number;
  readonly warm: number;
  readonly flake: string;
  readonly memMib: number;
  readonly maxUnavailable: number;
}

const wantedPool: Arbitrary<Wanted> = record({
  running: integer({ min: 0, max: 4 }),
  warm: integer({ min: 0, max: 2 }),
  flake: constantFrom("builtin:hello", "path:/a", "path:/b"),
  memMib: constantFrom(256, 512),
  maxUnavailable: integer({ min: 1, max: 3 }),
});

interface Case {
  readonly host: ModelHost;
  readonly document: DesiredState;
}

/** The tenant `acme` of a document, as some document before made it, and the document that is in force now. */
const cases: Arbitrary<Case> = record({
  before: array(wantedPool, { minLength: 1, maxLength: 3 }),
  after: array(wantedPool, { maxLength: 3 }),
  prune: boolean(),
  gateway: boolean(),
  fails: array(boolean(), { maxLength: 3 }),
}).map(({ before, after, prune, gateway, fails }) => {
  const role = (index: number): "gateway" | "worker" =>
    gateway && index === 0 ? "gateway" : "worker";
  const pools = before.map((pool, index) =>
    aPool(`p${index}`, {
      managed_by: "document",
      role: role(index),
      running: pool.running,
      warm: pool.warm,
      update_strategy: { max_unavailable: 1, rollback: true },
      built_from: { flake_ref: "builtin:hello", profile: "minimal" },
      good_revision: imageHash,
    }),
  );
  let offset = 1;
  const instances = before.flatMap((pool, index) =>
    Array.from({ length: pool.running + pool.warm }, (_, number) => {
      offset += 1;
      return seen(anInstance(`p${index}`, offset, number < pool.running ? "running" : "warm"));
    }),
  );
  const quota = { max_running: 100, max_warm: 100, max_vcpus: 1000, max_mem_mib: 1_000_000 };
  const tenant = { ...aTenant({ quota }), managed_by: "document" as const };
  const written = after.map((pool, index) =>
    writtenPool(`p${index}`, {
      role: role(index),
      flake_ref: pool.flake,
      instance_resources: { vcpus: 1, mem_mib: pool.memMib, data_disk_mib: 0 },
      desired_counts: { running: pool.running, warm: pool.warm, sleeping: 0 },
      update_strategy: { max_unavailable: pool.maxUnavailable, health_timeout_seconds: 60 },
    }),
  );
  const document = parseDesiredState(
    bytesOf(
      writtenDocument([writtenTenant("acme", 1, written, { quota })], {
        prune_unknown_pools: prune,
      }),
    ),
  );
  const host = new ModelHost(
    { ...observed(pools, instances), tenants: [{ tenant, pools, instances, networkReady: true }] },
    fails,
  );
  host.document = document;
  return { host, document };
});

test("a document is always brought about, and then nothing is planned, now and a day later", () => {
  checkProperty(
    property(cases, ({ host, document }) => {
      const last = host.converge();
      assert.deepEqual(last.held, []);
      const [desired] = document.tenants;
      for (const wanted of desired?.pools ?? []) {
        const pool = host.pools.find(({ pool_id }) => pool_id === wanted.pool_id);
        assert.ok(pool);
        assert.deepEqual(differingFields(pool, wanted), []);
        const members = host.instances.filter(({ pool_id }) => pool_id === wanted.pool_id);
        const of = (status: string): number =>
          members.filter(({ state }) => state.status === status).length;
        assert.equal(of("running"), wanted.desired_counts.running);
        assert.equal(of("warm"), wanted.desired_counts.warm);
        for (const member of members) {
          const vmm = vmmOf(member);
          if (vmm === undefined) continue;
          assert.equal(vmm.revision, pool.revisions[0], "it runs the pool's image");
          if (member.resources === null) continue;
          assert.equal(member.resources.mem_mib, wanted.instance_resources.mem_mib);
        }
      }
      host.nowMs += 86_400_000;
      assert.deepEqual(plan(host.input()).actions, []);
    }),
    runs,
  );
});

test("pools that no document names go only when it says so, and their instances before them", () => {
  checkProperty(
    property(cases, ({ host, document }) => {
      const named = new Set(document.tenants[0]?.pools.map(({ pool_id }) => pool_id));
      const unknown = host.pools.filter(({ pool_id }) => !named.has(pool_id));
      host.converge(({ actions }) => {
        for (const action of actions) {
          if (action.kind !== "remove-pool") continue;
          assert.ok(!named.has(action.pool.pool));
          assert.ok(host.instances.every(({ pool_id }) => pool_id !== action.pool.pool));
        }
      });
      const left = host.pools.filter(({ pool_id }) => !named.has(pool_id));
      assert.equal(left.length, document.prune_unknown_pools ? 0 : unknown.length);
    }),
    runs,
  );
});

test("an update never stops more that serve well than may be missing", () => {
  checkProperty(
    property(cases, ({ host, document }) => {
      host.converge(({ actions }) => {
        const [seenTenant] = host.input().tenants;
        for (const wanted of document.tenants[0]?.pools ?? []) {
          const pool = host.pools.find(({ pool_id }) => pool_id === wanted.pool_id);
          if (pool === undefined || differingFields(pool, wanted).length > 0) continue;
          const healthy = (seenTenant?.instances ?? []).filter(
            ({ record, health }) =>
              record.pool_id === wanted.pool_id && !record.spare && health === "healthy",
          );
          const ids = new Set(
            healthy.map(({ record }) =>
              formatInstance({
                tenant: record.tenant_id,
                pool: record.pool_id,
                instance: record.instance_id,
              }),
            ),
          );
          const stopped = actions.filter(
            (action) => action.kind === "stop-instance" && ids.has(formatInstance(action.instance)),
          ).length;
          if (stopped === 0) continue;
          const left = healthy.length - stopped;
          const fewest = wanted.desired_counts.running - wanted.update_strategy.max_unavailable;
          assert.ok(left >= Math.min(fewest, healthy.length), `${left} of ${fewest} are left`);
        }
      });
    }),
    runs,
  );
});

test("an image that is no good is taken back for the last good one, whichever starts fail", () => {
  checkProperty(
    property(cases, ({ host, document }) => {
      const bad = {
        ...document,
        tenants: document.tenants.map((tenant) => ({
          ...tenant,
          pools: tenant.pools.map((pool) => ({ ...pool, flake_ref: badFlake })),
        })),
      };
      host.document = bad;
      host.badFlakes.add(badFlake);
      host.converge();
      for (const pool of host.pools) {
        const wanted = bad.tenants[0]?.pools.find(({ pool_id }) => pool_id === pool.pool_id);
        const { running = 0, warm = 0 } = wanted?.desired_counts ?? {};
        if (wanted === undefined || running + warm === 0 || pool.good_revision === null) continue;
        const gateway = host.pools.find(({ role }) => role === "gateway");
        if (gateway?.good_revision === null) continue;
        assert.equal(pool.revisions[0], pool.good_revision);
        assert.notEqual(pool.rejected_revision, null);
      }
      host.nowMs += 86_400_000;
      assert.deepEqual(plan(host.input()).actions, []);
    }),
    runs,
  );
});

test("the same input with a document gives the same plan and is left as it was, and names an instance once", () => {
  checkProperty(
    property(cases, ({ host }) => {
      host.converge((next) => {
        const input = host.input();
        const copy = structuredClone(input);
        assert.deepEqual(plan(input), next);
        assert.deepEqual(input, copy);
        const named = next.actions.flatMap((action) =>
          "instance" in action ? [formatInstance(action.instance)] : [],
        );
        assert.equal(new Set(named).size, named.length, named.join(" "));
      });
    }),
    { numRuns: 60 },
  );
});
