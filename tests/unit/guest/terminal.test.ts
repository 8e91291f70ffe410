import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import * as fc from "fast-check";
import { shellWord } from "../../../src/guest/terminal.ts";
import { TestTerminal } from "../../hosts/test-terminal.ts";

function sh(script: string): string[] {
  return ["/bin/sh", "-c", script];
}

test("a command on a terminal has one for input, output and errors, of the size that was asked for", async () => {
  const terminal = new TestTerminal();
  const script =
    'test -t 0 && test -t 1 && test -t 2 && stty size && echo "$TERM" "$A" "$PWD"; exit 7';
  const env = { TERM: "vt220", A: "b" };
  assert.equal(await terminal.run(sh(script), { env, cwd: "/tmp" }), 7);
  assert.equal(terminal.shown, "33 101\nvt220 b /tmp\n");
});

test("what is typed is echoed and read, and the descriptor of the agent is not the command's", async () => {
  const terminal = new TestTerminal();
  const ended = terminal.run(
    sh("test -e /proc/$$/fd/3 || echo only mine; read line; echo got $line"),
  );
  await terminal.until(/only mine/);
  await terminal.type("hello\r");
  assert.equal(await ended, 0);
  assert.match(terminal.shown, /hello\ngot hello\n$/);
});

test("Ctrl-C interrupts what runs in front, and a shell goes on", async () => {
  const terminal = new TestTerminal();
  const ended = terminal.run(["/bin/sh"], { env: { PS1: "ready " } });
  await terminal.until(/ready $/);
  await terminal.type("sleep 60; echo code=$?\r");
  await terminal.until(/code=\$\?\n/);
  // The shell has to have begun it.
  await sleep(200);
  await terminal.type("\u0003");
  await terminal.until(/\^C[^]*ready $/);
  await terminal.type("exit 9\r");
  assert.equal(await ended, 9);
});

test("a command that a signal ended gives 128 and its number", async () => {
  const terminal = new TestTerminal();
  const ended = terminal.run(["/bin/sleep", "60"]);
  // Until it has begun the key goes to a shell; both end by it.
  await sleep(300);
  await terminal.type("\u0003");
  assert.equal(await ended, 130);
});

test("a new size is told to the programs on the terminal", async () => {
  const terminal = new TestTerminal();
  // The first of the two may come before or after the trap is set.
  const onSize = 'size=$(stty size); echo "$size"; [ "$size" != "41 112" ] || exit 0';
  const script = `trap '${onSize}' WINCH; echo ready; while :; do sleep 0.1; done`;
  const ended = terminal.run(sh(script));
  // Before the command has begun: the first size must not come after this one.
  await terminal.resize({ rows: 40, cols: 111 });
  await terminal.until(/ready/);
  await terminal.resize({ rows: 41, cols: 112 });
  assert.equal(await ended, 0);
  assert.match(terminal.shown, /41 112\n$/);
  await assert.rejects(terminal.resize({ rows: 1, cols: 1 }), /no terminal/);
});

test("without input a terminal waits and is not at its end", async () => {
  const terminal = new TestTerminal();
  const started = performance.now();
  const ended = terminal.run(["/bin/cat"], { input: false, timeout_ms: 600 });
  await assert.rejects(ended, /did not end within 600 ms/);
  assert.ok(performance.now() - started >= 600);
});

test("a cancelled command ends with all that is on its terminal, also what ignores that it is gone", async () => {
  const terminal = new TestTerminal();
  // In a job of its own, as a shell at a terminal starts it; nohup: SIGHUP does not end it.
  const ended = terminal.run(
    sh("set -m; nohup sleep 600 </dev/tty >/dev/null 2>&1 & echo pid=$!; wait"),
  );
  const pid = (await terminal.until(/pid=(\d+)\n/))[1] ?? "";
  assert.ok(existsSync(`/proc/${pid}`));
  terminal.cut();
  assert.equal(await ended, 137);
  for (let attempt = 0; isRunning(pid); attempt += 1) {
    assert.ok(attempt < 500, `process ${pid} is still there`);
    await sleep(10);
  }
});

/** A zombie has ended: whoever adopted it has not asked for its exit code yet. */
function isRunning(pid: string): boolean {
  if (!existsSync(`/proc/${pid}`)) return false;
  return !/^State:\s+Z/m.test(execFileSync("cat", [`/proc/${pid}/status`], { encoding: "utf8" }));
}

test("a missing program or folder is told as without a terminal", async () => {
  const terminal = new TestTerminal();
  await assert.rejects(terminal.run(["no-such-program"]), { code: "not_found" });
  await assert.rejects(terminal.run(["/no/such"]), { code: "not_found" });
  await assert.rejects(terminal.run([""]), { code: "not_found" });
  await assert.rejects(terminal.run(["/bin/sh"], { cwd: "/no/folder" }), { code: "not_found" });
  assert.equal(terminal.table.size, 0);
});

test("arguments come through as they are, whatever a shell would make of them", async () => {
  const terminal = new TestTerminal();
  const words = ["", "it's", '"$HOME"', "a  b", "`id`", "*", "\\n", "-x", "ü", "a;b&c|d>e"];
  assert.equal(await terminal.run(["/usr/bin/printf", "<%s>\\n", ...words]), 0);
  assert.equal(terminal.shown, words.map((word) => `<${word}>\n`).join(""));
});

test("any text is one word for a shell", () => {
  const text = fc.string({ unit: "grapheme" }).filter((word) => !word.includes("\0"));
  fc.assert(
    fc.property(fc.array(text, { minLength: 1, maxLength: 20 }), (words) => {
      const line = `printf '%s\\0' ${words.map(shellWord).join(" ")}`;
      const printed = execFileSync("/bin/sh", ["-c", line], { encoding: "utf8" });
      assert.deepEqual(printed.split("\0"), [...words, ""]);
    }),
    { numRuns: 50 },
  );
});
