import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, readdir, stat, symlink, writeFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { startConsoleKeeper, untilDrained } from "../../../../src/host/vmm/console-keeper.ts";
import { isErrno } from "../../../../src/host/files.ts";
import { lastLogLines } from "../../../../src/host/log-files.ts";
import { TemporaryRoots } from "../../../builders/temporary-roots.ts";

const keptBytes = 10_000;

async function logFolder(roots: TemporaryRoots): Promise<{ console: string; vmm: string }> {
  await mkdir(roots.folder, { recursive: true });
  return { console: join(roots.folder, "console.log"), vmm: join(roots.folder, "vmm.log") };
}

/** Writes and waits until the other side has taken it. */
async function print(input: Socket | undefined, text: string): Promise<void> {
  assert.ok(input);
  await new Promise<void>((resolve, reject) => {
    input.write(text, (error) => (error instanceof Error ? reject(error) : resolve()));
  });
}

/** The size of a file; nothing when it was replaced meanwhile. */
async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return 0;
    throw error;
  }
}

/** Lines that are all of one length. */
function lines(first: number, count: number): string {
  return Array.from({ length: count }, (_, index) => `line ${1_000_000 + first + index}\n`).join(
    "",
  );
}

test("whoever waits for the last lines of a VMM waits, with nothing else to do", async () => {
  await using roots = await TemporaryRoots.make();
  const { console } = await logFolder(roots);
  const source = `
    const { startConsoleKeeper } = await import(process.argv[1]);
    const keeper = await startConsoleKeeper(process.argv[2], [process.argv[3]]);
    keeper.inputs[0].end("last words", () => {
      keeper.handOver();
      void keeper.drained().then(() => process.stdout.write("drained"));
    });`;
  const module = join(import.meta.dirname, "../../../../src/host/vmm/console-keeper.ts");
  const args = ["--input-type=module", "--eval", source, module, roots.runDir, console];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  assert.equal(await text(child.stdout), "drained");
  assert.equal(await readFile(console, "utf8"), "last words");
});

test("what was printed is in the file of its own, at once and behind what was there", async () => {
  await using roots = await TemporaryRoots.make();
  const { console, vmm } = await logFolder(roots);
  await writeFile(console, "from the last boot\n");
  const keeper = await startConsoleKeeper(roots.runDir, [console, vmm], keptBytes);
  await print(keeper.inputs[0], "guest\n");
  await print(keeper.inputs[1], "VMM\n");
  const deadlineMs = performance.now() + 5000;
  while ((await lastLogLines(console, 5)).at(-1) !== "guest") {
    assert.ok(performance.now() < deadlineMs, "it is not written while the VMM lives");
    await delay(10);
  }
  keeper.handOver();
  await keeper.drained();
  assert.equal(await readFile(console, "utf8"), "from the last boot\nguest\n");
  assert.equal(await readFile(vmm, "utf8"), "VMM\n");
});

test("the logs are there as soon as the keeper is started", async () => {
  await using roots = await TemporaryRoots.make();
  const { console, vmm } = await logFolder(roots);
  const keeper = await startConsoleKeeper(roots.runDir, [console, vmm], keptBytes);
  assert.deepEqual(await readdir(roots.folder), ["console.log", "vmm.log"]);
  keeper.handOver();
  await keeper.drained();
});

test("a flood never takes more than twice what is kept, and its last lines stay", async () => {
  await using roots = await TemporaryRoots.make();
  const { console, vmm } = await logFolder(roots);
  const keeper = await startConsoleKeeper(roots.runDir, [console, vmm], keptBytes);
  let largest = 0;
  const done = new AbortController();
  const watch = (async (): Promise<void> => {
    while (!done.signal.aborted) {
      for (const name of await readdir(roots.folder)) {
        largest = Math.max(largest, await sizeOf(join(roots.folder, name)));
      }
      await delay(1);
    }
  })();
  const each = 500;
  const rounds = 400;
  for (let round = 0; round < rounds; round += 1) {
    await print(keeper.inputs[0], lines(round * each, each));
  }
  keeper.handOver();
  await untilDrained(roots.runDir);
  done.abort();
  await watch;
  // One read of the keeper may come on top before it looks.
  assert.ok(largest <= 2 * keptBytes + 65_536, `${largest} bytes`);
  const kept = await readFile(console, "utf8");
  assert.ok(kept.length >= keptBytes, `${kept.length} bytes are kept`);
  const all = lines(0, each * rounds);
  assert.equal(kept, all.slice(-kept.length), "the end of all that was printed");
  assert.deepEqual(await readdir(roots.folder), ["console.log", "vmm.log"]);
});

test("the keeper outlives the process that started it and ends with the last who can print", async () => {
  await using roots = await TemporaryRoots.make();
  const { console, vmm } = await logFolder(roots);
  const module = new URL("../../../../src/host/vmm/console-keeper.ts", import.meta.url).href;
  const program = `
    const { spawn } = await import("node:child_process");
    const { startConsoleKeeper } = await import(${JSON.stringify(module)});
    const keeper = await startConsoleKeeper(${JSON.stringify(roots.runDir)}, ${JSON.stringify([console, vmm])});
    spawn("sh", ["-c", "sleep 1; echo last words >&3"], {
      detached: true, stdio: ["ignore", "ignore", "ignore", keeper.inputs[0]],
    }).unref();
    process.kill(process.pid, "SIGKILL");
  `;
  const starter = spawn(process.execPath, ["--input-type=module", "--eval", program], {
    stdio: "inherit",
  });
  await once(starter, "exit");
  const deadlineMs = performance.now() + 10_000;
  while ((await lastLogLines(console, 1))[0] !== "last words") {
    assert.ok(performance.now() < deadlineMs, "its last words are lost");
    await delay(20);
  }
  const beganMs = performance.now();
  await untilDrained(roots.runDir);
  assert.ok(performance.now() - beganMs < 1500, "it did not end by itself");
});

test("a link in place of a log is not followed", async () => {
  await using roots = await TemporaryRoots.make();
  const { console, vmm } = await logFolder(roots);
  const elsewhere = join(roots.folder, "elsewhere");
  await writeFile(elsewhere, "");
  await symlink(elsewhere, console);
  const keeper = await startConsoleKeeper(roots.runDir, [console, vmm], keptBytes);
  await print(keeper.inputs[0], "guest\n");
  await print(keeper.inputs[1], "VMM\n");
  keeper.handOver();
  await keeper.drained();
  assert.equal(await readFile(elsewhere, "utf8"), "");
  assert.equal(await readFile(vmm, "utf8"), "VMM\n");
});

const needsRoot = process.getuid?.() === 0 ? false : "needs root, to run a program as another user";
test(
  "another user's program that calls itself a keeper is neither waited for nor ended",
  { skip: needsRoot },
  async () => {
    await using roots = await TemporaryRoots.make();
    const args = ["--eval", "setTimeout(() => {}, 60000)", "--", `mvm-console ${roots.runDir}`];
    const pretender = spawn(process.execPath, args, {
      uid: 65534,
      gid: 65534,
      cwd: "/",
      stdio: "ignore",
    });
    await once(pretender, "spawn");
    try {
      const startedMs = performance.now();
      await untilDrained(roots.runDir);
      assert.ok(performance.now() - startedMs < 1500, "it was waited for");
      assert.equal(pretender.exitCode ?? pretender.signalCode, null, "it was ended");
    } finally {
      const ended = once(pretender, "exit");
      pretender.kill("SIGKILL");
      await ended;
    }
  },
);
