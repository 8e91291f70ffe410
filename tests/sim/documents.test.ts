import { test } from "node:test";
import { Coverage } from "./fleet-coverage.ts";
import { FleetSeed } from "./fleet-seed.ts";

const only = process.env["MVM_SIM_SEED"];
const seeds = Number(process.env["MVM_SIM_SEEDS"] ?? 40);

test(`${only === undefined ? seeds : 1} seeded fleets of documents, crashes and lost guests end as the newest document says`, async () => {
  const coverage = new Coverage();
  if (only !== undefined) await new FleetSeed(Number(only), coverage).run();
  else for (let seed = 1; seed <= seeds; seed += 1) await new FleetSeed(seed, coverage).run();
});
