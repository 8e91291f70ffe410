import assert from "node:assert/strict";
import { type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { open } from "node:fs/promises";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";

const main = join(dirname(dirname(dirname(import.meta.dirname))), "src", "main.ts");
const isRoot = process.getuid?.() === 0;

/** Runs mvm as a process. @returns its exit code and what it wrote to standard error. */
async function mvm(
  args: readonly string[],
  options: SpawnOptions = {},
): Promise<{ readonly exitCode: unknown; readonly stderr: string }> {
  const child = spawn(process.execPath, [main, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    ...options,
  });
  const said = child.stderr === null ? "" : text(child.stderr);
  const [exitCode] = (await once(child, "exit")) as unknown[];
  return { exitCode, stderr: await said };
}

test("data that cannot be written is a failure that is named", async () => {
  const full = await open("/dev/full", "w");
  try {
    const { exitCode, stderr } = await mvm(["--version"], { stdio: ["ignore", full.fd, "pipe"] });
    assert.equal(exitCode, 1, stderr);
    assert.match(stderr, /^mvm: standard output cannot be written: ENOSPC/);
  } finally {
    await full.close();
  }
});

test("a reader of data that went away is no failure", async () => {
  const child = spawn(process.execPath, [main, "--help"], { stdio: ["ignore", "pipe", "pipe"] });
  child.stdout.destroy();
  const said = text(child.stderr);
  const [exitCode] = (await once(child, "exit")) as unknown[];
  assert.equal(exitCode, 0);
  assert.equal(await said, "");
});

test("a reader of progress that went away does not change how it ends", async () => {
  const child = spawn(process.execPath, [main, "frobnicate"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  child.stderr.destroy();
  const [exitCode] = (await once(child, "exit")) as unknown[];
  assert.equal(exitCode, 2);
});

test(
  "whoever is not root is told so, and has help all the same",
  { skip: isRoot ? false : "needs root to become somebody else" },
  async (context) => {
    const nobody = { uid: 65534, gid: 65534, cwd: "/" };
    const { exitCode: helps } = await mvm(["--version"], nobody).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === "EACCES") return { exitCode: undefined };
      throw error;
    });
    if (helps !== 0) {
      context.skip("others may not read this checkout");
      return;
    }
    for (const command of ["tenant list", "node info", "doctor", "add host"]) {
      const { exitCode, stderr } = await mvm(command.split(" "), nobody);
      assert.equal(exitCode, 7, stderr);
      assert.match(stderr, /^mvm: mvm needs root\n {2}next: run it with sudo\n$/);
    }
  },
);

test(
  "work that nothing will ever end is a failure, and says so",
  { skip: isRoot ? false : "needs root" },
  async () => {
    const neverReads = `
      const fs = process.getBuiltinModule("node:fs/promises");
      fs.readFile = () => new Promise(() => {});
      process.getBuiltinModule("node:module").syncBuiltinESMExports();`;
    const preload = `data:text/javascript,${encodeURIComponent(neverReads)}`;
    const child = spawn(process.execPath, ["--import", preload, main, "node", "info"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const said = text(child.stderr);
    const [exitCode] = (await once(child, "exit")) as unknown[];
    assert.equal(exitCode, 1, await said);
    assert.match(await said, /ended before its work did/);
  },
);
