import assert from "node:assert/strict";
import { appendFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { BuilderConsole } from "../../../src/image/builder-console.ts";

describe("the console of a builder", () => {
  let folder: string;
  let path: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-console-"));
    path = join(folder, "console.log");
  });
  afterEach(() => rm(folder, { recursive: true }));

  it("tells progress, the exit code and the derivation that failed", async () => {
    const progress: string[] = [];
    const console = new BuilderConsole(path, (line) => progress.push(line));
    await console.poll();
    await appendFile(path, "[    0.4] PCI: nothing\nmvm-builder: evaluating the fl");
    await console.poll();
    assert.deepEqual(progress, []);
    const drv = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-app-1.0.drv";
    await appendFile(path, "ake\napp> compiling\r\n");
    await appendFile(path, `error: builder for '${drv}' failed with exit code 3;\n`);
    await appendFile(path, "mvm-builder: end 1\n");
    await console.poll();
    assert.deepEqual(progress.slice(0, 2), ["evaluating the flake", "app> compiling"]);
    assert.equal(console.failedDerivation, "app-1.0");
    assert.equal(console.exitCode, 1);
  });

  it("never passes on control characters, nor lines without end", async () => {
    const progress: string[] = [];
    const console = new BuilderConsole(path, (line) => progress.push(line));
    await appendFile(path, "app> \u001b[31mred\u001b[0m \u001b]0;title\u0007\u0000x\n");
    await appendFile(path, `app> ${"y".repeat(1_000_000)}\n`);
    await console.poll();
    assert.equal(progress[0], "app> red ]0;titlex");
    assert.ok(progress.every((line) => line.length <= 300));
    assert.ok(console.lines.length <= 200);
  });

  it("is not believed twice about how the build ended", async () => {
    const console = new BuilderConsole(path, () => undefined);
    await appendFile(path, "mvm-builder: end 1\nmvm-builder: end 0\n");
    await console.poll();
    assert.equal(console.exitCode, 1);
  });

  it("remembers that the Nix store is broken, however much is printed after", async () => {
    const console = new BuilderConsole(path, () => undefined);
    await appendFile(path, "app> mvm-builder: the Nix store is broken\n");
    await console.poll();
    assert.equal(console.storeBroken, false, "a build said so, not its builder");
    await appendFile(path, "mvm-builder: the Nix store is broken\n");
    await appendFile(path, "app> line\n".repeat(300));
    await console.poll();
    assert.equal(console.storeBroken, true);
  });

  it("tells that the builder ran out of memory", async () => {
    const console = new BuilderConsole(path, () => undefined);
    await appendFile(path, "[   12.0] Out of memory: Killed process 99 (nix) total-vm:1kB\n");
    await console.poll();
    assert.equal(console.outOfMemory, true);
  });
});
