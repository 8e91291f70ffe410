import assert from "node:assert/strict";
import { test } from "node:test";
import { egressPolicy } from "../../src/domain/egress.ts";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { findTemplate } from "../../src/domain/templates.ts";
import { deployTemplate } from "../../src/node/deploy.ts";
import { tenantNetworkState } from "../../src/node/networks.ts";
import { createPool, scalePool } from "../../src/node/pools.ts";
import { FakeHost } from "../fakes/fake-host.ts";
import { helloPool } from "./hello-pool.ts";

const tenant = parseTenantId("demo");
const extra = { tenant, pool: parsePoolId("extra") };

async function deployed(): Promise<FakeHost> {
  const host = new FakeHost();
  await deployTemplate(host.context(), { tenant, template: findTemplate("openclaw") });
  return host;
}

async function addPool(host: FakeHost): Promise<void> {
  await createPool(
    host.context(),
    helloPool(extra, {
      egress: egressPolicy({ mode: "allow", cidrs: [], domains: ["a.example"], ports: [443] }),
    }),
  );
}

test("in production nothing starts while the network is not in place, and what is missing is named", async () => {
  const host = await deployed();
  await addPool(host);
  host.production = true;
  host.tampered.add("tn1i6");
  const before = host.living().length;
  const { failures } = await scalePool(host.context(), extra, { running: 1 });
  assert.equal(host.living().length, before);
  assert.match(JSON.stringify(failures), /MVM_PRODUCTION=1 .*tn1i6 is missing/);
});

test("outside of production a difference does not keep an instance from starting", async () => {
  const host = await deployed();
  await addPool(host);
  host.tampered.add("tn1i6");
  const before = host.living().length;
  await scalePool(host.context(), extra, { running: 1 });
  assert.equal(host.living().length, before + 1);
});

test("an instance's port has its pool's egress policy, and none when the pool cannot be read", async () => {
  const host = await deployed();
  await addPool(host);
  await scalePool(host.context(), extra, { running: 1 });
  const [records] = host.records().tenants;
  assert.ok(records !== undefined);
  const ports = tenantNetworkState(records).ports;
  const port = ports.find(({ owner }) => owner.startsWith("demo/extra/"));
  assert.equal(port?.egress.mode, "allow");
  const pools = records.pools.filter(({ pool_id }) => pool_id !== extra.pool);
  const left = tenantNetworkState({ ...records, pools }).ports;
  assert.deepEqual(
    left.map(({ owner }) => owner),
    ports.map(({ owner }) => owner).filter((owner) => owner !== port?.owner),
  );
});

test("a rule or a port that was tampered with is put right by the next reconcile, and not looked for twice", async () => {
  const host = await deployed();
  const taps = [...host.taps];
  host.tampered.add(taps[0] ?? "");
  const told: string[] = [];
  const before = host.calls.length;
  const context = { ...host.context(), onProgress: (line: string): unknown => told.push(line) };
  await scalePool(context, { tenant, pool: parsePoolId("workers") }, {});
  const calls = host.calls.slice(before);
  assert.equal(calls.filter((call) => call === "network.verify").length, 1);
  assert.ok(calls.includes("network.apply"));
  assert.deepEqual(told, [`network: ${taps[0]}: is missing; it is put right`]);
});
