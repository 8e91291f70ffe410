import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isDiskFull } from "../../src/domain/errors.ts";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf } from "../../src/domain/instance.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import { FakeHost } from "../fakes/fake-host.ts";
import { assertAuditWhole, assertNothingLeaked } from "./checkers.ts";
import { helloPool, withStatus } from "./hello-pool.ts";

const tenant = parseTenantId("acme");
const web = { tenant, pool: parsePoolId("web") };

interface Made {
  readonly host: FakeHost;
  readonly node: NodeOperations;
}

/** A tenant with two instances that run, and then a disk that is full. */
async function onFullDisk(): Promise<Made> {
  const host = new FakeHost();
  const node = new NodeOperations(host.context());
  await node.createTenant({ tenant });
  await node.createPool(helloPool(web));
  await node.scalePool(web, { running: 2 });
  host.disk = "full";
  return { host, node };
}

const ends: Readonly<Record<string, (made: Made) => Promise<void>>> = {
  "instance stop": ({ host, node }) => node.stopInstance(addressOf(withStatus(host, "running"))),
  "instance destroy": ({ host, node }) =>
    node.destroyInstance(addressOf(withStatus(host, "running")), true),
  "pool destroy": ({ node }) => node.destroyPool(web, { force: true, wipe: true }),
  "tenant destroy": ({ node }) => node.destroyTenant(tenant, { force: true, wipe: true }),
};

for (const [command, end] of Object.entries(ends)) {
  describe(`${command} on a full disk`, () => {
    test("is done with the space that is kept back, and is in the audit log", async () => {
      const made = await onFullDisk();
      await end(made);
      assert.ok(made.host.living().length < 2, "a VMM has ended");
      assertNothingLeaked(made.host, command);
      await assertAuditWhole(made.host, command);
      assert.equal(made.host.reserved, true, "and there is some for the next time");
    });

    test("is refused with the cause where none is kept back, and nothing has ended", async () => {
      const made = await onFullDisk();
      made.host.reserved = false;
      const before = JSON.stringify(made.host.records());
      await assert.rejects(end(made), isDiskFull);
      assert.equal(JSON.stringify(made.host.records()), before);
      assert.equal(made.host.living().length, 2);
    });
  });
}

test("what makes something on a full disk is refused and takes nothing of what is kept back", async () => {
  const { host, node } = await onFullDisk();
  const before = JSON.stringify(host.records());
  const other = { tenant, pool: parsePoolId("other") };
  await assert.rejects(node.createPool(helloPool(other)), isDiskFull);
  await assert.rejects(node.createTenant({ tenant: parseTenantId("other") }), isDiskFull);
  await assert.rejects(node.scalePool(web, { running: 3 }), isDiskFull);
  await assert.rejects(node.setSecrets(tenant, { TOKEN: "x" }), isDiskFull);
  assert.equal(JSON.stringify(host.records()), before);
  assert.equal(host.reserved, true);
});
