import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { nodeLog } from "../../src/domain/audit.ts";
import { DesiredRefusedError, type RefusalReason } from "../../src/domain/desired-refusal.ts";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import type { DesiredRequest } from "../../src/node/desired/accept.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import type { AuditEntry } from "../../src/ports/audit.ts";
import {
  TestCoordinator,
  bytesOf,
  guide,
  guideDocument,
  writtenDocument,
  writtenPool,
  writtenTenant,
} from "../builders/documents.ts";
import { CrashError, FakeHost } from "../fakes/fake-host.ts";
import { helloPool } from "./hello-pool.ts";

const acme = parseTenantId("acme");

/** A node that believes one coordinator. */
class TestNode {
  readonly host: FakeHost = new FakeHost();
  readonly coordinator: TestCoordinator = new TestCoordinator();

  constructor(production = true) {
    this.host.production = production;
    this.host.trustedKeys = [this.coordinator.publicKey];
  }

  /** Its operations, as a new process has them. */
  get operations(): NodeOperations {
    return new NodeOperations(this.host.context());
  }

  async log(): Promise<AuditEntry[]> {
    return (await this.host.context().audit.last(nodeLog, 100)) ?? [];
  }

  /** Asserts that a document is refused, that nothing changed, and that it was written down. */
  async refuses(request: DesiredRequest, reason: RefusalReason, says = /./): Promise<void> {
    const before = this.host.desired;
    await assert.rejects(this.operations.acceptDesired(request), (error) => {
      assert.ok(error instanceof DesiredRefusedError, String(error));
      assert.equal(error.reason, reason);
      assert.match(error.message, says);
      return true;
    });
    assert.equal(this.host.desired, before);
    const last = (await this.log()).at(-1);
    assert.equal(last?.type, "DesiredRefused");
    assert.equal(last.fields["reason"], reason);
    assert.match(String(last.fields["cause"]), says);
  }

  sign(document: unknown, about: Parameters<TestCoordinator["sign"]>[1] = {}): DesiredRequest {
    const bytes = document instanceof Uint8Array ? document : bytesOf(document);
    return { signed: this.coordinator.sign(bytes, about) };
  }
}

const small = writtenDocument([writtenTenant("acme", 3, [writtenPool("web")])]);

test("a signed document is taken, kept with its generation, and written down", async () => {
  const node = new TestNode();
  const view = await node.operations.acceptDesired(node.sign(guideDocument, { generation: 4 }));
  assert.equal(view.generation, 4);
  assert.equal(view.changed, true);
  assert.deepEqual(node.host.desired?.document, guideDocument);
  assert.deepEqual(node.host.desired.signed, { generation: 4, hash: view.hash });
  const [line] = await node.log();
  assert.equal(line?.type, "DesiredAccepted");
  assert.equal(line.fields["document"], view.hash);
});

test("the same generation with the same document is a no-op", async () => {
  const node = new TestNode();
  const first = await node.operations.acceptDesired(node.sign(small));
  assert.deepEqual(await node.operations.acceptDesired(node.sign(small)), {
    ...first,
    changed: false,
  });
  assert.equal((await node.log()).length, 1);
});

test("the same generation with another document is a conflict", async () => {
  const node = new TestNode();
  await node.operations.acceptDesired(node.sign(small));
  await node.refuses(node.sign(guide()), "generation-conflict", /generation 1/);
});

test("an older generation is refused, also one that was taken before", async () => {
  const node = new TestNode();
  const old = node.sign(small, { generation: 1 });
  await node.operations.acceptDesired(old);
  await node.operations.acceptDesired(node.sign(guide(), { generation: 2 }));
  await node.refuses(old, "old-generation", /generation 1, .* generation 2/);
});

test("what was taken stays in force after it expired", async () => {
  const node = new TestNode();
  const expires_at = new Date(node.host.nowMs + 1000).toISOString();
  await node.operations.acceptDesired(node.sign(small, { expires_at }));
  node.host.nowMs += 2000;
  assert.ok(node.host.desired);
  await node.refuses(node.sign(small, { expires_at }), "expired");
});

describe("in production a node refuses", () => {
  test("a document that is not signed", async () => {
    await new TestNode().refuses({ document: bytesOf(small) }, "unsigned");
  });

  test("one whose signer it does not believe", async () => {
    const signed = new TestCoordinator().sign(bytesOf(small));
    await new TestNode().refuses({ signed }, "unknown-key");
  });

  test("one that was changed after it was signed", async () => {
    const node = new TestNode();
    const signed = node.coordinator.sign(bytesOf(small));
    const payload = bytesOf(guide()).toString("base64");
    await node.refuses({ signed: { ...signed, payload } }, "bad-signature");
  });

  test("one whose envelope is for another node", async () => {
    const node = new TestNode();
    await node.refuses(node.sign(small, { node_id: "node-b" }), "wrong-node");
  });

  test("one whose payload is for another node than its envelope", async () => {
    const node = new TestNode();
    await node.refuses(node.sign({ ...small, node_id: "node-b" }), "wrong-node");
  });

  test("one that expired", async () => {
    const node = new TestNode();
    await node.refuses(node.sign(small, { expires_at: "2020-01-01T00:00:00.000Z" }), "expired");
  });

  test("one that does not follow the schema, with all that is wrong", async () => {
    const node = new TestNode();
    const broken = { ...small, colour: 1, prune_unknown_pools: "yes" };
    await node.refuses(
      node.sign(broken),
      "malformed",
      /colour[^]*prune_unknown_pools|prune_unknown_pools[^]*colour/,
    );
  });
});

test("a coordinator that pushes what is refused again and again does not fill the log", async () => {
  const node = new TestNode();
  const { operations } = node;
  const expired = node.sign(small, { expires_at: new Date(node.host.nowMs - 1).toISOString() });
  for (let times = 0; times < 50; times += 1) {
    await assert.rejects(operations.acceptDesired(expired), DesiredRefusedError);
  }
  node.host.nowMs += 60_000;
  await assert.rejects(operations.acceptDesired(expired), DesiredRefusedError);
  const lines = (await node.log()).filter(({ type }) => type === "DesiredRefused");
  assert.deepEqual(
    lines.map(({ fields }) => fields["times"]),
    [1, 50],
  );
});

test("what a refusal says of a document is kept short in the log", async () => {
  const node = new TestNode();
  const tenants = [];
  for (let netId = 1; netId <= 40; netId += 1) {
    await node.operations.createTenant({ tenant: parseTenantId(`mine-${netId}`), netId });
    tenants.push(writtenTenant(`theirs-${netId}`, netId, [writtenPool("web")]));
  }
  await assert.rejects(
    node.operations.acceptDesired(node.sign(writtenDocument(tenants))),
    /clash|net id/,
  );
  const last = (await node.log()).at(-1);
  assert.equal(last?.fields["reason"], "clash");
  assert.ok(String(last.fields["cause"]).length <= 2000);
});

test("of two documents that are pushed at once the newer one stays, whichever came first", async () => {
  for (const generations of [
    [4, 5],
    [5, 4],
  ]) {
    const node = new TestNode();
    const { operations } = node;
    await Promise.allSettled(
      generations.map((generation) =>
        operations.acceptDesired(node.sign(generation === 5 ? guide() : small, { generation })),
      ),
    );
    assert.equal(node.host.desired?.signed?.generation, 5);
    assert.deepEqual(node.host.desired.document, bytesOf(guide()));
  }
});

describe("in development a node", () => {
  test("takes a document without a signature", async () => {
    const node = new TestNode(false);
    const view = await node.operations.acceptDesired({ document: bytesOf(small) });
    assert.deepEqual([view.generation, view.changed], [0, true]);
    const again = await node.operations.acceptDesired({ document: bytesOf(small) });
    assert.equal(again.changed, false);
  });

  test("keeps the newest signed generation beside one, and goes back to it when it is pushed again", async () => {
    const node = new TestNode(false);
    await node.operations.acceptDesired(node.sign(small, { generation: 5 }));
    await node.operations.acceptDesired({ document: bytesOf(guide()) });
    await node.refuses(node.sign(guide(), { generation: 4 }), "old-generation");
    const back = await node.operations.acceptDesired(node.sign(small, { generation: 5 }));
    assert.deepEqual([back.generation, back.changed], [5, true]);
    assert.deepEqual(node.host.desired?.document, bytesOf(small));
  });

  test("refuses a document that names another node", async () => {
    const document = bytesOf({ ...small, node_id: "node-b" });
    await new TestNode(false).refuses({ document }, "wrong-node");
  });

  test("checks a signature that is there", async () => {
    const signed = new TestCoordinator().sign(bytesOf(small));
    await new TestNode(false).refuses({ signed }, "unknown-key");
  });
});

describe("a clash with what is managed on this node is refused with both names:", () => {
  test("a tenant of the same id", async () => {
    const node = new TestNode();
    await node.operations.createTenant({ tenant: acme, netId: 9 });
    await node.refuses(node.sign(small), "clash", /tenant acme of the document and tenant acme/);
  });

  test("a tenant of the same network", async () => {
    const node = new TestNode();
    await node.operations.createTenant({ tenant: parseTenantId("mine"), netId: 3 });
    await node.refuses(node.sign(small), "clash", /net id 3 .* acme is that .* mine/);
  });

  test("a pool of the same id in the document's own tenant", async () => {
    const node = new TestNode();
    const { operations } = node;
    await operations.createTenant({ tenant: acme, netId: 3 });
    await operations.createPool(helloPool({ tenant: acme, pool: parsePoolId("web") }));
    const [records] = node.host.records().tenants;
    assert.ok(records);
    node.host.putTenant({ ...records.tenant, managed_by: "document" });
    await node.refuses(
      node.sign(small),
      "clash",
      /pool acme\/web of the document and pool acme\/web/,
    );
  });
});

test("a process that dies at any call while it takes a document leaves the old or the new one, and the next push ends it", async () => {
  for (const when of ["crash-before", "crash-after"] as const) {
    for (let call = 1; ; call += 1) {
      const node = new TestNode();
      await node.operations.acceptDesired(node.sign(small, { generation: 1 }));
      const newer = node.sign(guide(), { generation: 2 });
      const first = node.host.calls.length;
      node.host.fault = () => (node.host.calls.length - first === call ? when : "none");
      let died = false;
      try {
        await node.operations.acceptDesired(newer);
      } catch (error) {
        if (!(error instanceof CrashError)) throw error;
        died = true;
      }
      node.host.fault = () => "none";
      assert.ok([1, 2].includes(node.host.desired?.signed?.generation ?? 0));
      await node.operations.acceptDesired(newer);
      assert.equal(node.host.desired?.signed?.generation, 2);
      assert.deepEqual(node.host.desired.document, bytesOf(guide()));
      if (!died) break;
    }
  }
});
