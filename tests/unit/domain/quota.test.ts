import assert from "node:assert/strict";
import { test } from "node:test";
import { assert as checkProperty, nat, property } from "fast-check";
import {
  QuotaError,
  type QuotaName,
  defaultQuotas,
  describeExcess,
  findExcess,
} from "../../../src/domain/quota.ts";
import { quotasSchema } from "../../../src/domain/quota-schema.ts";

const names = Object.keys(defaultQuotas) as QuotaName[];

test("there are seven quotas, with the defaults of a new tenant", () => {
  assert.deepEqual(defaultQuotas, {
    max_vcpus: 32,
    max_mem_mib: 65_536,
    max_running: 16,
    max_warm: 8,
    max_pools: 10,
    max_instances_per_pool: 32,
    max_disk_gib: 500,
  });
  assert.deepEqual(quotasSchema.parse(defaultQuotas), defaultQuotas);
});

for (const quota of names) {
  test(`${quota} allows exactly its limit and nothing beyond`, () => {
    checkProperty(
      property(nat(1000), nat(1000), nat(1000), (limit, used, asked) => {
        const excess = findExcess(
          { ...defaultQuotas, [quota]: limit },
          { [quota]: used },
          { [quota]: asked },
        );
        const allowed = asked === 0 || used + asked <= limit;
        assert.deepEqual(excess, allowed ? undefined : { quota, limit, used, asked });
      }),
    );
  });

  test(`a tenant's record must state ${quota}, as a whole number that is not negative`, () => {
    const { [quota]: _, ...without } = defaultQuotas;
    assert.equal(quotasSchema.safeParse(without).success, false);
    for (const bad of [-1, 1.5, "1", null, Number.NaN]) {
      assert.equal(quotasSchema.safeParse({ ...defaultQuotas, [quota]: bad }).success, false);
    }
  });
}

test("a quota that does not exist is refused", () => {
  assert.equal(quotasSchema.safeParse({ ...defaultQuotas, max_gpus: 1 }).success, false);
});

test("one who is over a quota already may still ask for nothing of it", () => {
  assert.equal(
    findExcess(defaultQuotas, { max_vcpus: 99 }, { max_vcpus: 0, max_warm: 1 }),
    undefined,
  );
});

test("a refusal names the quota, its limit, what is used and what was asked", () => {
  const excess = { quota: "max_running", limit: 16, used: 15, asked: 2 } as const;
  assert.equal(describeExcess(excess), "quota max_running allows 16: 15 used, 2 asked");
  const error = new QuotaError("acme", excess);
  assert.equal(error.code, "over_quota");
  assert.equal(error.message, "tenant acme: quota max_running allows 16: 15 used, 2 asked");
});
