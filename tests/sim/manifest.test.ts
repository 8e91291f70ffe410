import assert from "node:assert/strict";
import { test } from "node:test";
import { ConflictError } from "../../src/domain/errors.ts";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import type { Manifest, ManifestPool } from "../../src/domain/manifest.ts";
import { applyManifest } from "../../src/node/manifest.ts";
import { FakeHost } from "../fakes/fake-host.ts";
import { assertConverged } from "./checkers.ts";

const tenant_id = parseTenantId("myapp");
const secrets = { API_KEY: "one" };

const web: ManifestPool = {
  pool_id: parsePoolId("web"),
  flake_ref: "builtin:hello",
  profile: "minimal",
  role: "worker",
  instance_resources: { vcpus: 1, mem_mib: 256, data_disk_mib: 0 },
  desired_counts: { running: 2, warm: 0, sleeping: 0 },
};
const gateways: ManifestPool = {
  ...web,
  pool_id: parsePoolId("gateways"),
  role: "gateway",
  desired_counts: { running: 1, warm: 0, sleeping: 0 },
  gateway_routes: [{ name: "web", listen_port: 80, pool_id: web.pool_id, target_port: 8080 }],
};
const manifest: Manifest = { tenant_id, quotas: { max_running: 5 }, pools: [web, gateways] };

async function deployed(): Promise<FakeHost> {
  const host = new FakeHost();
  const { reconciled } = await applyManifest(host.context(), { manifest, secrets, dryRun: false });
  assert.ok(reconciled?.converged);
  return host;
}

test("a manifest makes tenant, pools, routes and secrets, and brings the instances about", async () => {
  const host = await deployed();
  const [records] = host.records().tenants;
  assert.equal(records?.tenant.quotas.max_running, 5);
  assert.deepEqual(records?.pools.map(({ pool_id }) => pool_id).toSorted(), ["gateways", "web"]);
  const gateway = records?.pools.find(({ role }) => role === "gateway");
  assert.deepEqual(gateway?.gateway_routes, gateways.gateway_routes);
  const running = records?.instances.filter(({ state }) => state.status === "running");
  assert.equal(running?.length, 3);
  assert.deepEqual((await host.context().secrets.load(tenant_id))?.values, secrets);
});

test("applied again, a manifest changes nothing", async () => {
  const host = await deployed();
  const before = host.records();
  const { changes } = await applyManifest(host.context(), { manifest, secrets, dryRun: false });
  assert.deepEqual(changes, []);
  assert.deepEqual(host.records(), before);
});

test("the first instances of a manifest have its secrets, each pool those of its scopes", async () => {
  const host = new FakeHost();
  const scopes = [{ integration: "telegram", keys: ["API_KEY"] }];
  const scoped: Manifest = { ...manifest, pools: [{ ...web, secret_scopes: scopes }, gateways] };
  await applyManifest(host.context(), { manifest: scoped, secrets, dryRun: false });
  const [records] = host.records().tenants;
  const epoch = (await host.context().secrets.load(tenant_id))?.epoch;
  assert.ok(epoch !== undefined && epoch > 0);
  assert.deepEqual(
    new Set(records?.instances.map(({ secrets_epoch }) => secrets_epoch)),
    new Set([epoch]),
  );
  const scopesOf = (id: string) =>
    records?.pools.find(({ pool_id }) => pool_id === id)?.secret_scopes;
  assert.deepEqual([scopesOf("web"), scopesOf("gateways")], [scopes, []]);

  const without: Manifest = { ...manifest, pools: [{ ...web, secret_scopes: [] }] };
  const { changes } = await applyManifest(host.context(), {
    manifest: without,
    secrets,
    dryRun: false,
  });
  assert.deepEqual(changes, ["myapp/web: secret_scopes: telegram=API_KEY → none"]);
  // A manifest that does not name them leaves them as they are.
  await applyManifest(host.context(), { manifest: scoped, secrets, dryRun: false });
  const again = await applyManifest(host.context(), { manifest, secrets, dryRun: false });
  assert.deepEqual(again.changes, []);
});

test("a preview refuses a network that is another tenant's", async () => {
  const host = await deployed();
  const other = { ...manifest, tenant_id: parseTenantId("other"), network: { tenant_net_id: 1 } };
  await assert.rejects(
    applyManifest(host.context(), { manifest: other, secrets, dryRun: true }),
    /net id 1 is in use by tenant myapp/,
  );
});

test("a changed manifest changes what differs, and only that", async () => {
  const host = await deployed();
  const next: Manifest = {
    ...manifest,
    quotas: { max_running: 6 },
    pools: [{ ...web, desired_counts: { running: 3, warm: 0, sleeping: 0 } }, gateways],
  };
  const request = { manifest: next, secrets: { API_KEY: "two" }, dryRun: false };
  const { changes } = await applyManifest(host.context(), request);
  assert.deepEqual(changes, [
    "myapp: max_running: 5 → 6",
    "myapp: secrets are replaced (1 names)",
    "myapp/web: running: 2 → 3",
  ]);
  assert.equal(host.living().length, 4);
});

test("a preview says the same and changes nothing", async () => {
  const host = new FakeHost();
  const { changes, reconciled } = await applyManifest(host.context(), {
    manifest,
    secrets,
    dryRun: true,
  });
  assert.deepEqual(changes, [
    "myapp: tenant is made, with subnet 10.240.1.0/24",
    "myapp: secrets are replaced (1 names)",
    "myapp/gateways: pool is made: gateway of builtin:hello, 1 vCPUs, 256 MiB, data disk 0 MiB; running 1, warm 0, sleeping 0",
    "myapp/web: pool is made: worker of builtin:hello, 1 vCPUs, 256 MiB, data disk 0 MiB; running 2, warm 0, sleeping 0",
  ]);
  assert.equal(reconciled, undefined);
  assert.deepEqual(host.records().tenants, []);
  assert.equal(await host.context().secrets.load(tenant_id), undefined);
});

test("what cannot be changed is refused in one go, before anything is changed", async () => {
  const host = await deployed();
  const before = host.records();
  const other: Manifest = {
    ...manifest,
    network: { tenant_net_id: 99 },
    pools: [
      { ...web, role: "builder", desired_counts: { running: 0, warm: 0, sleeping: 0 } },
      { ...gateways, gateway_routes: [] },
    ],
  };
  await assert.rejects(
    applyManifest(host.context(), { manifest: other, secrets, dryRun: false }),
    (error) =>
      error instanceof ConflictError &&
      /its network is net id 1,.*pool web is a worker.*pool gateways has other routes/.test(
        error.message,
      ),
  );
  assert.deepEqual(host.records(), before);
});

test("a deploy that dies at any call is finished by the next one", async () => {
  const whole = await deployed();
  const points = whole.calls.length;
  for (let point = 1; point <= points; point += 7) {
    const host = new FakeHost();
    let calls = 0;
    host.fault = () => ((calls += 1) === point ? "crash-after" : "none");
    await applyManifest(host.context(), { manifest, secrets, dryRun: false }).catch(
      () => undefined,
    );
    host.fault = () => "none";
    const { reconciled } = await applyManifest(host.context(), {
      manifest,
      secrets,
      dryRun: false,
    });
    assert.ok(reconciled?.converged, `died at call ${point}`);
    assertConverged(host, `died at call ${point}`);
  }
});
