import assert from "node:assert/strict";
import { describe, it, test } from "node:test";
import { HostLacksError, UsageError } from "../../../src/domain/errors.ts";
import {
  PromiseLackingError,
  type PromiseName,
  type PromiseStanding,
  describeStandings,
  judgePromises,
  parseWaivablePromise,
  promiseNames,
  viewProduction,
  waivablePromises,
} from "../../../src/domain/production.ts";
import { productionFindings } from "../../builders/production-findings.ts";

const nowMs = Date.parse("2027-01-01T00:00:00.000Z");
const neverWaived = ["signature", "mtls", "tenant-isolation"];

function standingOf(promise: PromiseName, untilMs?: number, lacks = true): PromiseStanding {
  const findings = productionFindings(new Map(lacks ? [[promise, "not here"]] : []), {
    waivers: untilMs === undefined ? [] : [{ promise, reason: "bought hardware", untilMs }],
  });
  const standing = judgePromises(findings, nowMs).find((each) => each.promise === promise);
  assert.ok(standing !== undefined);
  return standing;
}

test("signature, mTLS and tenant isolation cannot be waived, all others can", () => {
  assert.deepEqual(
    promiseNames.filter((name) => !waivablePromises.includes(name)),
    neverWaived,
  );
});

for (const promise of promiseNames) {
  const isWaivable = !neverWaived.includes(promise);
  describe(`the promise ${promise}`, () => {
    it("is enforced where the host keeps it, whatever is waived", () => {
      assert.equal(standingOf(promise, undefined, false).state, "enforced");
      assert.equal(standingOf(promise, nowMs + 1, false).state, "enforced");
    });

    it("is lacking where the host does not keep it and nobody waived it", () => {
      assert.equal(standingOf(promise).state, "lacking");
    });

    it(isWaivable ? "is waived until its waiver ends" : "is lacking in spite of a waiver", () => {
      assert.equal(standingOf(promise, nowMs + 1).state, isWaivable ? "waived" : "lacking");
    });

    it("is lacking from the moment at which its waiver ends", () => {
      assert.equal(standingOf(promise, nowMs).state, "lacking");
    });

    it(isWaivable ? "may be named by a waiver" : "may be named by no waiver", () => {
      if (isWaivable) assert.equal(parseWaivablePromise(promise), promise);
      else assert.throws(() => parseWaivablePromise(promise), /cannot be waived on any host/);
    });
  });
}

for (const name of ["", "jail", "Signature", "toString", "cgroup-v2 "]) {
  test(`${JSON.stringify(name)} is no promise`, () => {
    assert.throws(
      () => parseWaivablePromise(name),
      (error) => error instanceof UsageError && /there is no promise/.test(error.message),
    );
  });
}

test("a waiver covers its own promise alone", () => {
  const findings = productionFindings(
    new Map([
      ["cgroup-v2", "none"],
      ["encryption", "none"],
    ]),
    { waivers: [{ promise: "cgroup-v2", reason: "old host", untilMs: nowMs + 1 }] },
  );
  const view = viewProduction(findings, nowMs);
  assert.deepEqual(view.lacking, ["encryption"]);
  assert.deepEqual(view.waivers, [
    {
      promise: "cgroup-v2",
      reason: "old host",
      until: "2027-01-01T00:00:00.001Z",
      needed: true,
    },
  ]);
  assert.equal(view.enforced.length, promiseNames.length - 2);
  assert.equal(view.production, true);
});

test("an unneeded waiver is shown as such, and an ended one not at all", () => {
  const waivers = [
    { promise: "audit", reason: "for safety", untilMs: nowMs + 1000 },
    { promise: "encryption", reason: "was waited for", untilMs: nowMs - 1000 },
  ] as const;
  const shown = viewProduction(productionFindings(new Map(), { waivers }), nowMs).waivers;
  assert.deepEqual(
    shown.map(({ promise, needed }) => [promise, needed]),
    [["audit", false]],
  );
});

test("a refusal names what lacks, its ended waiver and both ways out", () => {
  const findings = productionFindings(new Map([["cgroup-v2", "no cgroup v2 here"]]), {
    waivers: [{ promise: "cgroup-v2", reason: "old host", untilMs: nowMs }],
  });
  const lacking = judgePromises(findings, nowMs).filter(({ state }) => state === "lacking");
  const error = new PromiseLackingError(lacking, findings);
  assert.ok(error instanceof HostLacksError);
  assert.deepEqual(error.promises, ["cgroup-v2"]);
  assert.match(
    error.message,
    /cgroup-v2 \(no cgroup v2 here; its waiver ended at 2027-01-01T00:00:00\.000Z\)/,
  );
  assert.match(error.hint ?? "", /mvm doctor.*waiver by name in \/etc\/mvm\/waivers\.toml/);
});

test("a refusal for what nobody can waive says so", () => {
  const findings = productionFindings(new Map([["mtls", "no CA"]]), {
    waiversProblem: "it is torn",
  });
  const lacking = judgePromises(findings, nowMs).filter(({ state }) => state === "lacking");
  const error = new PromiseLackingError(lacking, findings);
  assert.match(error.hint ?? "", /no waiver can name mtls/);
  assert.match(error.message, /no waiver holds: it is torn/);
});

test("a start says each promise, and what is waived with its reason and end", () => {
  const findings = productionFindings(
    new Map([
      ["encryption", "no disks are encrypted"],
      ["audit", "no key"],
    ]),
    { waivers: [{ promise: "encryption", reason: "test fleet", untilMs: nowMs + 1000 }] },
  );
  const lines = describeStandings(judgePromises(findings, nowMs));
  assert.equal(lines.length, promiseNames.length);
  assert.ok(lines.includes("NOT ENFORCED: audit: no key"));
  assert.ok(
    lines.includes(
      "WAIVED: encryption: no disks are encrypted (waiver until 2027-01-01T00:00:01.000Z: test fleet)",
    ),
  );
  assert.equal(lines.filter((line) => line.startsWith("enforced: ")).length, lines.length - 2);
});
