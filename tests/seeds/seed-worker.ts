import { parentPort, workerData } from "node:worker_threads";
import { Coverage } from "../sim/fleet-coverage.ts";
import { FleetSeed } from "../sim/fleet-seed.ts";

/** What a thread answers: what its seeds went through, or the first that failed. */
export type SeedsAnswer =
  | { readonly coverage: Coverage }
  | { readonly failed: { readonly seed: number; readonly problem: string } };

/** Runs every `step`th seed from `from` to `to`. */
async function runSeeds(): Promise<SeedsAnswer> {
  const { from, to, step } = workerData as {
    readonly from: number;
    readonly to: number;
    readonly step: number;
  };
  const coverage = new Coverage();
  for (let seed = from; seed <= to; seed += step) {
    try {
      await new FleetSeed(seed, coverage).run();
    } catch (error) {
      const problem = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return { failed: { seed, problem } };
    }
  }
  return { coverage };
}

const answer = await runSeeds();
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of a thread has none
parentPort?.postMessage(answer);
