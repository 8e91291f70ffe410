import assert from "node:assert/strict";
import { test } from "node:test";
import { ConflictError } from "../../src/domain/errors.ts";
import { formatInstance, parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf, vmmOf } from "../../src/domain/instance.ts";
import { parseTenantKey } from "../../src/domain/tenant-key.ts";
import { findTemplate } from "../../src/domain/templates.ts";
import { deployTemplate } from "../../src/node/deploy.ts";
import { operatorStart, operatorStop } from "../../src/node/instances.ts";
import { listSecrets, rotateSecrets, setSecrets } from "../../src/node/secrets.ts";
import { createTenant, destroyTenant } from "../../src/node/tenants.ts";
import { generateTenantKey, importTenantKey } from "../../src/node/tenant-keys.ts";
import { updatePool } from "../../src/node/update.ts";
import { CrashError, FakeHost } from "../fakes/fake-host.ts";

const tenant = parseTenantId("demo");
const workers = { tenant, pool: parsePoolId("workers") };
const tokenName = "OPENCLAW_GATEWAY_TOKEN";

async function deployed(): Promise<FakeHost> {
  const host = new FakeHost();
  await deployTemplate(host.context(), { tenant, template: findTemplate("openclaw") });
  return host;
}

test("rotating makes generated secrets anew, keeps those that were set, and raises the epoch", async () => {
  const host = await deployed();
  await setSecrets(host.context(), tenant, { API_KEY: "mine" });
  const before = await host.context().secrets.load(tenant);
  host.nowMs += 60_000;
  await rotateSecrets(host.context(), tenant);
  const after = await host.context().secrets.load(tenant);
  assert.ok(before && after);
  assert.deepEqual(after.values, before.values);
  assert.notEqual(after.generated[tokenName], before.generated[tokenName]);
  assert.equal(after.epoch, before.epoch + 1);
  assert.deepEqual(after.values_changed_at, before.values_changed_at);
  assert.notDeepEqual(after.generated_changed_at, before.generated_changed_at);
});

test("a tenant without generated secrets has nothing to rotate", async () => {
  const host = new FakeHost();
  await createTenant(host.context(), { tenant });
  await assert.rejects(rotateSecrets(host.context(), tenant), ConflictError);
});

test("a value that was set again as it was is as old as before", async () => {
  const host = await deployed();
  await setSecrets(host.context(), tenant, { SAME: "1", OTHER: "1" });
  const agesOf = async (): Promise<Record<string, string>> =>
    Object.fromEntries(
      (await listSecrets(host.context(), tenant)).secrets.map((secret) => [
        secret.name,
        secret.changed_at,
      ]),
    );
  const before = await agesOf();
  host.nowMs += 60_000;
  await setSecrets(host.context(), tenant, { SAME: "1", OTHER: "2" });
  const after = await agesOf();
  assert.equal(after["SAME"], before["SAME"]);
  assert.notEqual(after["OTHER"], before["OTHER"]);
});

test("an instance holds the epoch of its last start", async () => {
  const host = await deployed();
  const running = host
    .records()
    .tenants.flatMap(({ instances }) => instances)
    .filter((instance) => vmmOf(instance) !== undefined);
  const first = running.find(({ pool_id }) => pool_id === workers.pool);
  assert.ok(first);
  const { epoch } = await listSecrets(host.context(), tenant);
  await rotateSecrets(host.context(), tenant);
  const rotated = await listSecrets(host.context(), tenant);
  assert.ok(rotated.instances.every((held) => held.epoch === epoch && !held.current));
  await operatorStop(host.context(), addressOf(first));
  await operatorStart(host.context(), addressOf(first));
  const { instances } = await listSecrets(host.context(), tenant);
  assert.deepEqual(
    instances.filter(({ current }) => current).map(({ address }) => address),
    [formatInstance(addressOf(first))],
  );
});

test("with scopes an instance is given what they name, from its next start", async () => {
  const host = await deployed();
  await setSecrets(host.context(), tenant, { BOT_TOKEN: "b", API_KEY: "a" });
  const secretScopes = [{ integration: "telegram", keys: ["BOT_TOKEN"] }];
  await updatePool(host.context(), workers, { secretScopes }, { dryRun: false });
  const [first] = host.records().tenants.flatMap(({ instances }) =>
    instances.filter(({ pool_id, state }) => {
      return pool_id === workers.pool && state.status === "running";
    }),
  );
  assert.ok(first);
  await operatorStop(host.context(), addressOf(first));
  await operatorStart(host.context(), addressOf(first));
  assert.deepEqual(
    host.drives
      .get(first.instance_id)
      ?.secrets.map(({ integration, values }) => [integration, values]),
    [["telegram", { BOT_TOKEN: "b" }]],
  );
});

test("a tenant has a key from the moment there is a record of it, and none after", async () => {
  for (const when of ["crash-before", "crash-after"] as const) {
    for (let call = 1, died = true; died; call += 1) {
      const host = new FakeHost();
      const run = async (work: () => Promise<unknown>): Promise<boolean> => {
        const first = host.calls.length;
        host.fault = () => (host.calls.length - first === call ? when : "none");
        try {
          await work();
          return false;
        } catch (error) {
          if (error instanceof CrashError) return true;
          throw error;
        } finally {
          host.fault = () => "none";
        }
      };
      const check = (): void => {
        const made = host.records().tenants.length > 0;
        const destroying = host.records().tenants.some((records) => records.tenant.destroying);
        if (made && !destroying) assert.ok(host.keys.has(tenant), `${when} ${call}: no key`);
        if (!made) assert.ok(!host.keys.has(tenant) || !host.calls.includes("store.remove"));
      };
      died = await run(() => createTenant(host.context(), { tenant }));
      check();
      if (host.records().tenants.length === 0) await createTenant(host.context(), { tenant });
      const key = host.keys.get(tenant);
      assert.ok(key);
      const options = { force: true, wipe: true };
      died = (await run(() => destroyTenant(host.context(), tenant, options))) || died;
      check();
      if (host.records().tenants.length > 0) await destroyTenant(host.context(), tenant, options);
      assert.equal(host.keys.size, 0, `${when} ${call}`);
    }
  }
});

test("a key is replaced only by force, and the audit log says which was lost", async () => {
  const host = await deployed();
  const context = host.context();
  const before = host.keys.get(tenant);
  const key = parseTenantKey(Buffer.alloc(32, 7));
  await assert.rejects(importTenantKey(context, tenant, key, false), ConflictError);
  await assert.rejects(generateTenantKey(context, tenant, false), ConflictError);
  assert.equal(host.keys.get(tenant), before);
  await importTenantKey(context, tenant, key, true);
  await importTenantKey(context, tenant, parseTenantKey(Buffer.alloc(32, 7)), false);
  const entries = (await context.audit.last(tenant, 100)) ?? [];
  const replaced = entries.filter(({ type }) => type === "TenantKeyReplaced");
  assert.deepEqual(
    replaced.map(({ fields }) => [fields["how"], fields["lost"]]),
    [["imported", before]],
  );
});
