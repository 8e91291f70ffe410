// Measures what has a bar, and ends with 1 when one is missed.
//   npm run bench [-- --json] [name …]     all when no name is given; --list names them
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { table } from "../src/cli/output.ts";
import { commandLine } from "./command-line.ts";
import { fleet } from "./fleet.ts";
import { manyMicrovms, oneMicrovm } from "./microvms.ts";
import { planner } from "./planner.ts";
import type { Benchmark, Result, Samples } from "./samples.ts";

const benchmarks: readonly Benchmark[] = [commandLine, planner, fleet, oneMicrovm, manyMicrovms];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean", default: false }, list: { type: "boolean", default: false } },
});
const measures = Object.assign({}, ...benchmarks.map((benchmark) => benchmark.measures)) as Record<
  string,
  string
>;

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Measured is what is built: a bundle older than its sources would be passed over. */
function build(): void {
  const built = spawnSync(process.execPath, ["scripts/bundle.ts"], {
    cwd: join(import.meta.dirname, ".."),
    encoding: "utf8",
    timeout: 120_000,
  });
  if (built.status !== 0) throw new Error(`the build failed: ${built.stderr}`);
}

function tableOf(results: readonly Result[]): string {
  const rows = results.map(({ name, value, unit, bar, ok }) => [
    ok ? "ok" : "MISSED",
    name,
    `${value} ${unit}`,
    `${bar} ${unit}`,
    measures[name] ?? "",
  ]);
  return table(["", "NAME", "VALUE", "BAR", "IS"], rows);
}

async function main(): Promise<void> {
  if (values.list) {
    console.log(
      Object.entries(measures)
        .map(([name, what]) => `${name}: ${what}`)
        .join("\n"),
    );
    return;
  }
  const unknown = positionals.filter((name) => !(name in measures));
  if (unknown.length > 0) {
    say(
      `bench: there is no ${unknown.join(", ")}\n  next: choose from ${Object.keys(measures).join(", ")}`,
    );
    process.exitCode = 2;
    return;
  }
  build();
  const isChosen = (name: string): boolean =>
    positionals.length === 0 || positionals.includes(name);
  const results: Result[] = [];
  const samples: Record<string, Samples> = {};
  for (const benchmark of benchmarks) {
    const names = Object.keys(benchmark.measures);
    if (!names.some(isChosen)) continue;
    say(`measuring ${names.join(", ")}`);
    const measured = await benchmark.measure(say, interrupt.signal);
    results.push(...measured.results.filter(({ name }) => isChosen(name)));
    for (const name of names) if (isChosen(name)) samples[name] = measured.samples;
  }
  console.log(values.json ? JSON.stringify({ results, samples }) : tableOf(results));
  if (results.some(({ ok }) => !ok)) process.exitCode = 1;
}

const interrupt = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    say("bench: stopping after this sample");
    interrupt.abort(new Error(`interrupted by ${signal}`));
  });
}
await main();
