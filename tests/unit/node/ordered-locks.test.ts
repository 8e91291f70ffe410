import assert from "node:assert/strict";
import { test } from "node:test";
import { parseTenantId } from "../../../src/domain/ids.ts";
import { orderedLocks } from "../../../src/node/ordered-locks.ts";
import type { Locks } from "../../../src/ports/locks.ts";

const acme = parseTenantId("acme");
const taken: string[] = [];
const locks = orderedLocks({
  withTenant: async (tenant, _what, work) => {
    taken.push(`tenant ${tenant}`);
    return work();
  },
  withBuild: async (key, _what, work) => {
    taken.push(`build ${key}`);
    return work();
  },
  withNode: async (_what, work) => {
    taken.push("node");
    return work();
  },
});

const take: Readonly<Record<keyof Locks, <T>(work: () => Promise<T>) => Promise<T>>> = {
  withTenant: (work) => locks.withTenant(acme, "x", work),
  withBuild: (work) => locks.withBuild("key", "x", work),
  withNode: (work) => locks.withNode("x", work),
};

const names = ["withTenant", "withBuild", "withNode"] as const;

for (const [outerRank, outer] of names.entries()) {
  for (const [innerRank, inner] of names.entries()) {
    const allowed = innerRank > outerRank;
    test(`${inner} within ${outer} is ${allowed ? "allowed" : "a defect"}`, async () => {
      const before = taken.length;
      const both = take[outer](async () => take[inner](async () => "done"));
      if (allowed) assert.equal(await both, "done");
      else await assert.rejects(both, /lock is taken while a \w+ lock is held/);
      assert.equal(taken.length - before, allowed ? 2 : 1);
    });
  }
}

test("locks that were given back bind nobody, and neither do those of work beside", async () => {
  await take.withNode(async () => undefined);
  await take.withTenant(async () => undefined);
  await Promise.all([
    take.withNode(async () => new Promise(setImmediate)),
    take.withTenant(async () => new Promise(setImmediate)),
  ]);
});

test("two tenants' locks at once are a defect too", async () => {
  const both = locks.withTenant(acme, "x", async () =>
    locks.withTenant(parseTenantId("other"), "x", async () => undefined),
  );
  await assert.rejects(both, /a tenant lock is taken while a tenant lock is held/);
});
