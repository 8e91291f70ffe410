import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { Coverage } from "../sim/fleet-coverage.ts";
import type { SeedsAnswer } from "./seed-worker.ts";
import { actionKinds } from "../sim/fleet-seed.ts";

const seeds = 10_000;
const fewestActions = 30;
const fewestFaults = 5;
/** Points are reached by chance; the rarest, such as the repair of a torn audit log within each kind of action, are not all. */
const mostMissed = 40;

/** Runs every `step`th seed from `from` in a thread of its own. */
async function runSeeds(from: number, step: number): Promise<Coverage> {
  const worker = new Worker(join(import.meta.dirname, "seed-worker.ts"), {
    workerData: { from, step, to: seeds },
  });
  const answer = await new Promise<SeedsAnswer>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.once("exit", (code) => reject(new Error(`a worker ended with ${code}`)));
  });
  if ("coverage" in answer) return answer.coverage;
  const { seed, problem } = answer.failed;
  assert.fail(
    `seed ${seed}: ${problem}\n  again: MVM_SIM_SEED=${seed} node --test tests/sim/documents.test.ts`,
  );
}

test(`${seeds} seeded fleets end as the newest document says, and processes died within and after every kind of action`, async (t) => {
  const threads = availableParallelism();
  const parts = await Promise.all(
    Array.from({ length: threads }, (_, index) => runSeeds(index + 1, threads)),
  );
  const coverage = new Coverage();
  for (const part of parts) coverage.add(part);
  const points = coverage.seen.size * 2;
  t.diagnostic(
    `${coverage.seeds} seeds, ${coverage.actions} actions, ${coverage.faults} faults, ${coverage.crashes} crashes at ${points} points`,
  );
  assert.equal(coverage.seeds, seeds);
  assert.ok(coverage.actions >= seeds * fewestActions, `${coverage.actions} actions`);
  assert.ok(coverage.faults >= seeds * fewestFaults, `${coverage.faults} faults`);
  for (const kind of actionKinds) {
    const seen = [...coverage.seen].some((pair) => pair.startsWith(`${kind} `));
    assert.ok(seen, `no seed came to ${kind}`);
    assert.ok((coverage.afterAction.get(kind) ?? 0) > 0, `no process died right after ${kind}`);
  }
  const missing = coverage.missing();
  t.diagnostic(`${missing.length} points that no process died at: ${missing.join(", ")}`);
  assert.ok(missing.length <= mostMissed, `${missing.length} points were missed`);
});
