// Runs suites of tests (folders of tests/) and ends with the line `N passed, N failed, N skipped`.
import { globSync } from "node:fs";
import { run } from "node:test";
import { spec } from "node:test/reporters";

/** Suites whose files share nothing run side by side; the others use the whole machine one by one. */
const sideBySide = new Set(["unit", "sim"]);
/** A file that hangs must not take the whole run with it. */
const fileTimeoutMs = { sideBySide: 300_000, alone: 3_600_000 };

const counts = { passed: 0, failed: 0, skipped: 0 };

async function runSuite(suite: string): Promise<void> {
  const files = globSync(`tests/${suite}/**/*.test.ts`).toSorted();
  if (files.length === 0) throw new Error(`tests/${suite} has no test`);
  process.stdout.write(`\n${suite}: ${files.length} files\n`);
  const events = run({
    files,
    ...(sideBySide.has(suite)
      ? { concurrency: 4, timeout: fileTimeoutMs.sideBySide }
      : { concurrency: 1, timeout: fileTimeoutMs.alone }),
  });
  events.on("test:pass", ({ details, skip, todo }) => {
    if (details.type === "suite") return;
    if (skip !== undefined || todo !== undefined) counts.skipped += 1;
    else counts.passed += 1;
  });
  events.on("test:fail", ({ details }) => {
    if (details.type !== "suite") counts.failed += 1;
  });
  for await (const text of events.compose(new spec())) process.stdout.write(String(text));
}

const suites = process.argv.slice(2);
for (const suite of suites) await runSuite(suite);
process.stdout.write(
  `\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`,
);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
