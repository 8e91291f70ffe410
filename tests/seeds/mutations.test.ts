import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { text } from "node:stream/consumers";
import { projectDir } from "../test-host.ts";
import { mutations } from "./mutations.ts";

/** Far fewer than are run in the end: a bug that so few do not find is hardly looked for. */
const seeds = 400;
const timeoutMs = 300_000;

interface Verdict {
  readonly exitCode: number | null;
  readonly output: string;
}

/** Runs seeds of the simulation in a copy of the project, in which `change` may change a file. */
async function simulate(
  file?: string,
  change: (source: string) => string = (source) => source,
): Promise<Verdict> {
  const copy = await mkdtemp(join(tmpdir(), "mvm-mutation-"));
  try {
    for (const folder of ["src", "tests", "package.json"]) {
      await cp(join(projectDir, folder), join(copy, folder), { recursive: true });
    }
    await symlink(join(projectDir, "node_modules"), join(copy, "node_modules"));
    if (file !== undefined) {
      const path = join(copy, "src", file);
      await writeFile(path, change(await readFile(path, "utf8")));
    }
    const child = spawn(process.execPath, [join(copy, "tests/sim/documents.test.ts")], {
      cwd: copy,
      env: { PATH: process.env["PATH"] ?? "", MVM_SIM_SEEDS: String(seeds) },
      stdio: ["ignore", "pipe", "ignore"],
      timeout: timeoutMs,
      killSignal: "SIGKILL",
    });
    const ended = new Promise<number | null>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", resolve);
    });
    const output = await text(child.stdout);
    return { exitCode: await ended, output };
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

test("without a bug the same seeds end well", async () => {
  const { exitCode, output } = await simulate();
  assert.equal(exitCode, 0, output);
});

describe("the simulation finds that", { concurrency: 2 }, () => {
  for (const { name, file, find, replace } of mutations) {
    test(name, async (t) => {
      const { exitCode, output } = await simulate(file, (source) => {
        assert.equal(source.split(find).length, 2, `${file} has the place once`);
        return source.replace(find, () => replace);
      });
      assert.equal(exitCode, 1, `${seeds} seeds found nothing`);
      const found = /seed \d+[^\n]*/.exec(output)?.[0] ?? "";
      assert.notEqual(found, "", output);
      t.diagnostic(found);
    });
  }
});
