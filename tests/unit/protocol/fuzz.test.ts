import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { suite, test } from "node:test";
import { MvmError } from "../../../src/domain/errors.ts";
import { parseDesiredState } from "../../../src/domain/desired-state-schema.ts";
import { FrameDecoder, encodeFrame } from "../../../src/protocol/frames.ts";
import { parseHelloResult, parseNodeMessage } from "../../../src/protocol/node-answers.ts";
import { headOf, parseHello, parseNodeRequest } from "../../../src/protocol/node-requests.ts";
import { rawPublicKey, signDesired, verifyDesired } from "../../../src/protocol/signed-desired.ts";
import { guide } from "../../builders/documents.ts";
import { Mutations } from "../../builders/mutations.ts";
import { randomOf } from "../../builders/random.ts";

/** Another seed, or more tries: MVM_FUZZ_SEED=7 MVM_FUZZ_TRIES=1000000 node --test tests/unit/protocol/fuzz.test.ts */
const seed = Number(process.env["MVM_FUZZ_SEED"] ?? "20260101");
const tries = Number(process.env["MVM_FUZZ_TRIES"] ?? "4000");

/** Does something with bad input of every kind; what is thrown must be an error of mvm's own, typed. */
function fuzz(what: string, work: (mutations: Mutations, attempt: number) => void): void {
  for (let attempt = 0; attempt < tries; attempt += 1) {
    const mutations = new Mutations(randomOf(seed + attempt));
    try {
      work(mutations, attempt);
    } catch (error) {
      if (error instanceof MvmError) continue;
      throw new Error(`${what}: seed ${seed + attempt} (MVM_FUZZ_SEED, MVM_FUZZ_TRIES=1)`, {
        cause: error,
      });
    }
  }
}

const requests: readonly object[] = [
  { id: 1, op: "Reconcile", desired: { schema_version: 1 }, wait: true },
  { id: 2, op: "ReconcileSigned", signed: { envelope: {}, payload: "", signature: "" } },
  { id: 3, op: "Plan" },
  { id: 4, op: "NodeInfo" },
  { id: 5, op: "InstanceList", tenant_id: "acme" },
  { id: 6, op: "WakeInstance", instance: "acme/web/i-00000001" },
  { id: 7, op: "Events", tenant_id: "acme", last: 10 },
  { id: 8, op: "SecretsSet", tenant_id: "acme", secrets: { KEY: "value" } },
  { id: 9, op: "CertificateInstall", certificate: "PEM", revocations: "PEM" },
];
const hello = { id: 0, op: "Hello", protocol: "mvm-node", version: 1, role: "coordinator" };
const answers: readonly object[] = [
  { id: 1, ok: true, result: { a: 1 } },
  { id: 1, progress: { line: "x" } },
  { id: 1, error: { code: "failed", message: "x", details: { hint: "y" } } },
];
suite(`bad input, seed ${seed}`, () => {
  test("never makes the frame decoder fail untyped, nor hold more than came", () => {
    const good = Buffer.concat(requests.map((request) => encodeFrame(request)));
    fuzz("frames", (mutations) => {
      const decoder = new FrameDecoder(64 * 1024);
      const bytes = mutations.bytes(good);
      let rest = bytes;
      while (rest.length > 0) {
        const size = 1 + mutations.below(200);
        for (const value of decoder.push(rest.subarray(0, size))) headOf(value);
        rest = rest.subarray(size);
        assert.ok(decoder.pendingBytes <= bytes.length);
      }
    });
  });

  test("never makes a request or a Hello fail untyped", () => {
    let taken = 0;
    fuzz("requests", (mutations) => {
      const request = parseNodeRequest(mutations.json(mutations.pick(requests)));
      assert.ok(Number.isSafeInteger(request.id));
      taken += 1;
    });
    assert.ok(taken > 0 && taken < tries, `${taken} of ${tries} were requests all the same`);
    fuzz("hello", (mutations) => void parseHello(mutations.json(hello)));
  });

  test("never makes a node's answer fail untyped on the side that asked", () => {
    fuzz("answers", (mutations) => {
      parseNodeMessage(mutations.json(mutations.pick(answers)));
      parseHelloResult(mutations.json(hello));
    });
  });

  test("never gets a changed document past its signature", () => {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    const about = { node_id: "n1", generation: 3, expires_at: "2027-01-01T00:00:00.000Z" };
    const bytes = Buffer.from(JSON.stringify(guide()));
    const good = signDesired(privateKey, about, bytes);
    const options = {
      trustedKeys: [rawPublicKey(publicKey)],
      nodeId: "n1",
      nowMs: Date.parse("2026-06-01T00:00:00.000Z"),
    };
    assert.deepEqual(verifyDesired(good, options).payload, bytes);
    fuzz("signed", (mutations) => {
      const bad = mutations.json(good);
      if (JSON.stringify(bad) === JSON.stringify(good)) return;
      verifyDesired(bad, options);
      assert.fail("a changed document was believed");
    });
    fuzz("signed bytes", (mutations) => {
      const payload = mutations.bytes(bytes);
      if (payload.equals(bytes)) return;
      verifyDesired({ ...good, payload: payload.toString("base64") }, options);
      assert.fail("a changed document was believed");
    });
  });

  test("never makes the parser of documents fail untyped", () => {
    fuzz("documents", (mutations) => {
      parseDesiredState(Buffer.from(JSON.stringify(mutations.json(guide()))));
    });
    const good = Buffer.from(JSON.stringify(guide()));
    fuzz("document bytes", (mutations) => void parseDesiredState(mutations.bytes(good)));
  });
});
