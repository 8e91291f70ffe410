import assert from "node:assert/strict";
import { test } from "node:test";
import { NotFoundError } from "../../../src/domain/errors.ts";
import { defaultQuotas } from "../../../src/domain/quota.ts";
import { findTemplate } from "../../../src/domain/templates.ts";

const openclaw = findTemplate("openclaw");

test("openclaw is a gateway pool and a worker pool of the promised sizes", () => {
  const shown = openclaw.pools.map(({ pool_id, role, instance_resources, desired_counts }) => ({
    pool_id,
    role,
    instance_resources,
    desired_counts,
  }));
  assert.deepEqual(shown, [
    {
      pool_id: "gateways",
      role: "gateway",
      instance_resources: { vcpus: 2, mem_mib: 1024, data_disk_mib: 0 },
      desired_counts: { running: 1, warm: 0, sleeping: 0 },
    },
    {
      pool_id: "workers",
      role: "worker",
      instance_resources: { vcpus: 2, mem_mib: 1024, data_disk_mib: 2048 },
      desired_counts: { running: 2, warm: 1, sleeping: 0 },
    },
  ]);
});

test("openclaw fits into a new tenant's quotas", () => {
  const vcpus = openclaw.pools.reduce(
    (sum, { instance_resources, desired_counts: { running, warm } }) =>
      sum + instance_resources.vcpus * (running + warm),
    0,
  );
  assert.ok(vcpus <= defaultQuotas.max_vcpus);
  assert.ok(openclaw.pools.length <= defaultQuotas.max_pools);
});

test("openclaw's gateway leads to its workers", () => {
  const [gateway] = openclaw.pools;
  assert.deepEqual(gateway?.gateway_routes, [
    { name: "openclaw", listen_port: 18_789, pool_id: "workers", target_port: 18_789 },
  ]);
});

test("a template that does not exist is refused with those that do", () => {
  assert.throws(
    () => findTemplate("nope"),
    (error) => {
      assert.ok(error instanceof NotFoundError);
      assert.match(error.hint ?? "", /openclaw/);
      return true;
    },
  );
});
