import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ConflictError, OperationError } from "../../../src/domain/errors.ts";
import { acquireFileLock } from "../../../src/host/file-lock.ts";

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "mvm-lock-"));
});
after(async () => {
  await rm(folder, { recursive: true });
});

const moduleUrl = new URL("../../../src/host/file-lock.ts", import.meta.url).href;

/** Another process that holds the lock until it dies. */
async function startHolder(path: string): Promise<ReturnType<typeof spawn>> {
  const script = `
    import { acquireFileLock } from ${JSON.stringify(moduleUrl)};
    await acquireFileLock(${JSON.stringify(path)}, { waitMs: 0, label: "test holder" });
    process.stdout.write("held");
    setInterval(() => undefined, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  return child;
}

void test("a lock that another process holds is refused with its pid and label", async () => {
  const path = join(folder, "held");
  const holder = await startHolder(path);
  try {
    await assert.rejects(acquireFileLock(path, { waitMs: 0 }), (error) => {
      assert.ok(error instanceof ConflictError);
      assert.match(error.message, new RegExp(`process ${holder.pid} \\(test holder\\)`));
      return true;
    });
  } finally {
    holder.kill("SIGKILL");
  }
});

void test("a holder that dies by SIGKILL lets the next one in", async () => {
  const path = join(folder, "killed");
  const holder = await startHolder(path);
  const waiting = acquireFileLock(path, { waitMs: 10_000 });
  holder.kill("SIGKILL");
  const lock = await waiting;
  await lock.release();
  await lock.release();
});

void test("two holders in one process exclude each other, and the waiting one gets it on release", async () => {
  const path = join(folder, "same");
  const first = await acquireFileLock(path, { waitMs: 0 });
  await assert.rejects(acquireFileLock(path, { waitMs: 50 }), ConflictError);
  const second = acquireFileLock(path, { waitMs: 5000 });
  await first.release();
  await (await second).release();
});

void test("a lock file that was removed while one waited does not make two holders", async () => {
  const path = join(folder, "removed");
  const first = await acquireFileLock(path, { waitMs: 0 });
  const second = acquireFileLock(path, { waitMs: 5000 });
  await new Promise((resolve) => setTimeout(resolve, 200));
  await rm(path);
  await first.release();
  const lock = await second;
  await assert.rejects(acquireFileLock(path, { waitMs: 0 }), ConflictError);
  await lock.release();
});

void test("waiting for a lock ends when it is interrupted", async () => {
  const path = join(folder, "aborted");
  const first = await acquireFileLock(path, { waitMs: 0 });
  const abort = new AbortController();
  const second = acquireFileLock(path, { waitMs: 60_000, signal: abort.signal });
  setTimeout(() => abort.abort(), 50);
  await assert.rejects(second, OperationError);
  await first.release();
});
