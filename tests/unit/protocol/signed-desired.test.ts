import assert from "node:assert/strict";
import { sign } from "node:crypto";
import { describe, test } from "node:test";
import { DesiredRefusedError, type RefusalReason } from "../../../src/domain/desired-refusal.ts";
import {
  type SignedDesired,
  type SignedEnvelope,
  publicKeyOf,
  rawPublicKey,
  signedBytes,
  signingKeyId,
  verifyDesired,
} from "../../../src/protocol/signed-desired.ts";
import { secretsHash } from "../../../src/protocol/secrets-hash.ts";
import { TestCoordinator, guideDocument } from "../../builders/documents.ts";

const coordinator = new TestCoordinator();
const options = {
  trustedKeys: [new TestCoordinator().publicKey, coordinator.publicKey],
  nodeId: "node-a",
  nowMs: Date.parse("2026-01-01T00:00:00.000Z"),
};

function assertRefused(value: unknown, reason: RefusalReason, changes = {}): void {
  assert.throws(
    () => verifyDesired(value, { ...options, ...changes }),
    (error) => {
      assert.ok(error instanceof DesiredRefusedError, String(error));
      assert.equal(error.reason, reason, error.message);
      return true;
    },
  );
}

test("what a coordinator signed for a node is taken there, byte for byte", () => {
  const signed = coordinator.sign(guideDocument, { generation: 7 });
  const overTheWire = JSON.parse(JSON.stringify(signed)) as unknown;
  const { envelope, payload } = verifyDesired(overTheWire, options);
  assert.deepEqual(payload, guideDocument);
  assert.equal(envelope.generation, 7);
  assert.equal(envelope.key_id, signingKeyId(coordinator.publicKey));
});

test("the signature covers format, every field of the envelope and the payload, each by its length", () => {
  const { envelope } = coordinator.sign(guideDocument);
  const text = (value: string): Buffer => Buffer.from(value);
  const part = (bytes: Buffer): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  };
  assert.deepEqual(
    signedBytes(envelope, text("{}")),
    Buffer.concat([
      part(text("mvm-desired/1")),
      part(text("node-a")),
      part(text("1")),
      part(text("2030-01-01T00:00:00.000Z")),
      part(text(envelope.key_id)),
      part(text("{}")),
    ]),
  );
});

test("no change of one byte of a signed document is taken", () => {
  const signed = JSON.stringify(coordinator.sign(Buffer.from('{"a":1}')));
  let tried = 0;
  for (let index = 0; index < signed.length; index += 1) {
    for (const flip of [1, 2, 4, 16, 32]) {
      const code = signed.charCodeAt(index) ^ flip;
      const changed = signed.slice(0, index) + String.fromCharCode(code) + signed.slice(index + 1);
      let value: unknown;
      try {
        value = JSON.parse(changed);
      } catch {
        continue;
      }
      tried += 1;
      assert.throws(() => verifyDesired(value, options), DesiredRefusedError, changed);
    }
  }
  assert.ok(tried > 500, `${tried} tried`);
});

describe("a signed document is refused when", () => {
  const signed = coordinator.sign(guideDocument);
  const withEnvelope = (changes: Partial<SignedEnvelope>): SignedDesired => ({
    ...signed,
    envelope: { ...signed.envelope, ...changes },
  });

  test("its key is not believed", () => {
    assertRefused(new TestCoordinator().sign(guideDocument), "unknown-key");
    assertRefused(signed, "unknown-key", { trustedKeys: [] });
  });

  test("it claims a believed key and was signed with another", () => {
    const other = new TestCoordinator().sign(guideDocument);
    const envelope = { ...other.envelope, key_id: signed.envelope.key_id };
    assertRefused({ ...other, envelope }, "bad-signature");
  });

  test("a field of its envelope was changed after it was signed", () => {
    assertRefused(withEnvelope({ generation: 2 }), "bad-signature");
    assertRefused(withEnvelope({ expires_at: "2031-01-01T00:00:00.000Z" }), "bad-signature");
    assertRefused(withEnvelope({ node_id: "node-b" }), "bad-signature");
  });

  test("it is for another node", () => {
    assertRefused(coordinator.sign(guideDocument, { node_id: "node-b" }), "wrong-node");
  });

  test("it expired, to the millisecond", () => {
    const short = coordinator.sign(guideDocument, { expires_at: "2026-01-01T00:00:00.001Z" });
    verifyDesired(short, options);
    assertRefused(short, "expired", { nowMs: options.nowMs + 1 });
  });

  test("the signature is that of the payload alone, or of another format", () => {
    const bare = sign(null, guideDocument, coordinator.key).toString("base64");
    assertRefused({ ...signed, signature: bare }, "bad-signature");
    const envelope = { ...signed.envelope, format: "mvm-desired/2" as "mvm-desired/1" };
    const other = sign(null, signedBytes(envelope, guideDocument), coordinator.key);
    assertRefused({ ...signed, signature: other.toString("base64") }, "bad-signature");
  });

  for (const [name, value] of Object.entries({
    "is no object": 1,
    "has no envelope": { payload: "", signature: "" },
    "has a field too many": { ...signed, extra: 1 },
    "has a generation of zero": withEnvelope({ generation: 0 }),
    "has a generation beyond what a number can tell": withEnvelope({ generation: 2 ** 60 }),
    "has a payload that is not base64": { ...signed, payload: "?" },
    "has a signature of another length": { ...signed, signature: "AAAA" },
  })) {
    test(`it ${name}`, () => assertRefused(value, "malformed"));
  }
});

test("a payload is not looked into before its signature is right", () => {
  const signed = coordinator.sign(Buffer.from("this is no JSON"));
  assertRefused({ ...signed, signature: `${"A".repeat(86)}==` }, "bad-signature");
});

test("a public key survives its 32 bytes", () => {
  assert.equal(coordinator.publicKey.length, 32);
  assert.deepEqual(rawPublicKey(publicKeyOf(coordinator.publicKey)), coordinator.publicKey);
});

test("the hash of secrets tells sets apart, whatever their order", () => {
  const hash = secretsHash({ A: "1", B: "2" });
  assert.match(hash, /^[0-9a-f]{64}$/);
  assert.equal(secretsHash({ B: "2", A: "1" }), hash);
  const others: Record<string, string>[] = [
    { A: "1" },
    { A: "2", B: "1" },
    { A: "1B", "": "2" },
    { A: "1", B: "2", C: "" },
  ];
  for (const other of others) assert.notEqual(secretsHash(other), hash);
});
