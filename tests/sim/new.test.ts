import assert from "node:assert/strict";
import { test } from "node:test";
import { ConflictError } from "../../src/domain/errors.ts";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import type { Manifest } from "../../src/domain/manifest.ts";
import type { Pool } from "../../src/domain/pool.ts";
import { findTemplate } from "../../src/domain/templates.ts";
import { type DeployRequest, deployTemplate } from "../../src/node/deploy.ts";
import type { ManifestResult } from "../../src/node/manifest.ts";
import { FakeHost } from "../fakes/fake-host.ts";
import { assertConverged } from "./checkers.ts";

const tenant = parseTenantId("myapp");
const template = findTemplate("openclaw");
const token = "OPENCLAW_GATEWAY_TOKEN";

/** Other workers than the template's, and a pool of its own. */
const manifest: Manifest = {
  tenant_id: tenant,
  quotas: { max_running: 6 },
  pools: [
    {
      pool_id: parsePoolId("workers"),
      flake_ref: "builtin:hello",
      profile: "minimal",
      role: "worker",
      instance_resources: { vcpus: 1, mem_mib: 256, data_disk_mib: 0 },
      desired_counts: { running: 3, warm: 0, sleeping: 0 },
      secret_scopes: [{ integration: "worker", keys: [token] }],
    },
    {
      pool_id: parsePoolId("tools"),
      flake_ref: "builtin:hello",
      profile: "minimal",
      role: "worker",
      instance_resources: { vcpus: 1, mem_mib: 256, data_disk_mib: 0 },
      desired_counts: { running: 1, warm: 0, sleeping: 0 },
    },
  ],
};
const config = { manifest, secrets: { API_KEY: "one" } };

function deploy(host: FakeHost, more: Partial<DeployRequest> = {}): Promise<ManifestResult> {
  return deployTemplate(host.context(), { tenant, template, ...more });
}

function poolOf(host: FakeHost, id: string): Pool | undefined {
  return host.records().tenants[0]?.pools.find(({ pool_id }) => pool_id === id);
}

test("a preview of a new deployment says what would be made, and makes nothing", async () => {
  const host = new FakeHost();
  const { changes, reconciled } = await deploy(host, { dryRun: true, netId: 7 });
  assert.deepEqual(changes, [
    "myapp: tenant is made, with subnet 10.240.7.0/24",
    "myapp/gateways: pool is made: gateway of builtin:openclaw, 2 vCPUs, 1024 MiB, data disk 0 MiB; running 1, warm 0, sleeping 0",
    "myapp/workers: pool is made: worker of builtin:openclaw, 2 vCPUs, 1024 MiB, data disk 2048 MiB; running 2, warm 1, sleeping 0",
    `myapp: secrets are generated: ${token}`,
  ]);
  assert.equal(reconciled, undefined);
  assert.deepEqual(host.records().tenants, []);
  assert.equal(await host.context().secrets.load(tenant), undefined);
  assert.deepEqual(host.living(), []);
});

test("what a preview says is what is done then, and after that there is nothing to do", async () => {
  for (const more of [{}, { config }, { config, netId: 9 }]) {
    const host = new FakeHost();
    const preview = await deploy(host, { ...more, dryRun: true });
    const done = await deploy(host, more);
    assert.ok(done.reconciled?.converged);
    assert.deepEqual(done.changes.toSorted(), preview.changes.toSorted());
    assert.deepEqual((await deploy(host, { ...more, dryRun: true })).changes, []);
    const before = host.records();
    assert.deepEqual((await deploy(host, more)).changes, []);
    assert.deepEqual(host.records(), before);
  }
});

test("with a manifest a pool is as it says, the others as the template says, and the rest is completed", async () => {
  const host = new FakeHost();
  assert.ok((await deploy(host, { config, netId: 9 })).reconciled?.converged);
  const [records] = host.records().tenants;
  assert.equal(records?.tenant.net_id, 9);
  assert.equal(records.tenant.template, "openclaw");
  assert.equal(records.tenant.quotas.max_running, 6);
  assert.deepEqual(poolOf(host, "workers")?.desired_counts, { running: 3, warm: 0, sleeping: 0 });
  assert.equal(poolOf(host, "workers")?.flake_ref, "builtin:hello");
  assert.equal(poolOf(host, "tools")?.desired_counts.running, 1);
  assert.equal(poolOf(host, "gateways")?.flake_ref, "builtin:openclaw");
  assert.equal(host.living().length, 5);

  const stored = await host.context().secrets.load(tenant);
  assert.deepEqual(stored?.values, { API_KEY: "one" });
  assert.deepEqual(Object.keys(stored.generated), [token]);
  for (const { secrets_epoch } of records.instances) assert.equal(secrets_epoch, stored.epoch);
});

test("another flake is the template's pools', and a manifest's pools keep their own", async () => {
  const host = new FakeHost();
  await deploy(host, { config, flakeRef: "path:/other" });
  assert.equal(poolOf(host, "gateways")?.flake_ref, "path:/other");
  assert.equal(poolOf(host, "workers")?.flake_ref, "builtin:hello");
});

test("what cannot be gone on with is refused before anything is changed, by a preview too", async () => {
  const host = new FakeHost();
  await deploy(host);
  const before = host.records();
  const [workers] = manifest.pools;
  assert.ok(workers);
  const refused: readonly (readonly [Partial<DeployRequest>, RegExp])[] = [
    [{ netId: 5 }, /exists with net id 1/],
    [{ config, netId: 5 }, /exists with net id 1/],
    [{ flakeRef: "path:/other" }, /is built from builtin:openclaw/],
    [
      {
        config: { ...config, manifest: { ...manifest, pools: [{ ...workers, role: "builder" }] } },
      },
      /pool workers is a worker/,
    ],
  ];
  for (const [more, says] of refused) {
    for (const dryRun of [true, false]) {
      await assert.rejects(deploy(host, { ...more, dryRun }), (error) => {
        assert.ok(error instanceof ConflictError);
        assert.match(error.message, says);
        return true;
      });
    }
  }
  assert.deepEqual(host.records(), before);
});

test("a new deployment with a manifest that dies at any call is finished by the next one", async () => {
  const whole = new FakeHost();
  await deploy(whole, { config });
  for (let point = 1; point <= whole.calls.length; point += 7) {
    const host = new FakeHost();
    let calls = 0;
    host.fault = () => ((calls += 1) === point ? "crash-after" : "none");
    await deploy(host, { config }).catch(() => undefined);
    host.fault = () => "none";
    const { reconciled } = await deploy(host, { config });
    assert.ok(reconciled?.converged, `died at call ${point}`);
    assertConverged(host, `died at call ${point}`);
  }
});
