import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { shellWord } from "../../src/guest/terminal.ts";
import { TestTerminal } from "../hosts/test-terminal.ts";
import { projectDir } from "../test-host.ts";

const driver = join(projectDir, "tests", "hosts", "exec-terminal-driver.ts");
const instance = "acme/web/i-00000001";

describe("instance exec at a terminal", () => {
  let folder = "";
  let silenceFile = "";
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-terminal-test-"));
    silenceFile = join(folder, "silent");
  });
  after(() => rm(folder, { recursive: true }));

  /**
   * A shell on a terminal of the test's runs `mvm instance exec` there, then tells its exit code.
   * @returns how its terminal was set before and after that.
   */
  async function exec(
    terminal: TestTerminal,
    flags: readonly string[],
    command: readonly string[],
    redirect = "",
  ): Promise<{ before: string; after: string }> {
    const words = [process.execPath, driver, silenceFile, ...flags, instance, "--", ...command];
    const line = words.map(shellWord).join(" ");
    const [from, to] = [join(folder, "before"), join(folder, "after")];
    const script = `trap : INT; stty -a >${from}; ${line} ${redirect}; echo "exit=$?"; stty -a >${to}`;
    const env = { PATH: process.env["PATH"] ?? "", TERM: "vt102" };
    assert.equal(await terminal.run(["/bin/sh", "-c", script], { env }), 0);
    return { before: await readFile(from, "utf8"), after: await readFile(to, "utf8") };
  }

  test("-it is a shell in the guest: its size, its keys, Ctrl-C, its exit code; the terminal is as before", async () => {
    const terminal = new TestTerminal();
    const done = exec(terminal, ["-it"], ["env", "PS1=guest# ", "/bin/sh"]);
    await terminal.until(/guest# $/);
    await terminal.type("stty size; echo $TERM; tty\r");
    await terminal.until(/\n33 101\nvt102\n\/dev\/pts\/\d+\nguest# $/);
    // Had the local terminal an echo too, each key would be there twice.
    assert.equal(terminal.shown.split("stty size").length, 2);

    const watch = `sh -c "trap 'stty size' WINCH; echo watching; while sleep 0.1; do :; done"`;
    await terminal.type(`${watch}\r`);
    await terminal.until(/\nwatching\n/);
    await terminal.resize({ rows: 44, cols: 122 });
    await terminal.until(/\n44 122\n/);

    await terminal.type("\u0003");
    await terminal.until(/\^C[^]*guest# $/);
    await terminal.type("exit 9\r");
    const settings = await done;
    assert.match(terminal.shown, /exit=9\n$/);
    assert.match(settings.before, /[^-]icanon/);
    assert.equal(
      settings.after.replace("rows 44; columns 122", "rows 33; columns 101"),
      settings.before,
    );
  });

  test("a guest that falls silent ends the command with an error, and the terminal is as before", async () => {
    const terminal = new TestTerminal();
    const done = exec(terminal, ["-it"], ["/bin/cat"]);
    await terminal.type("hello\r");
    await terminal.until(/hello\nhello\n/);
    await writeFile(silenceFile, "");
    const settings = await done;
    await rm(silenceFile);
    assert.match(terminal.shown, /mvm: the guest did not answer Ping[^]*exit=1\n$/);
    assert.equal(settings.after, settings.before);
  });

  test("-t alone shows a terminal at which nobody types: Ctrl-C is for mvm", async () => {
    const terminal = new TestTerminal();
    const done = exec(terminal, ["-t"], ["/bin/sh", "-c", "tty; exec cat"]);
    await terminal.until(/\/dev\/pts\/\d+\n/);
    await terminal.type("\u0003");
    const settings = await done;
    assert.match(terminal.shown, /exit=130\n$/);
    assert.equal(settings.after, settings.before);
  });

  test("-i and neither flag give the command no terminal, also when mvm has one", async () => {
    const script = "tty || read x && echo got $x";
    const alone = new TestTerminal();
    await exec(alone, [], ["/bin/sh", "-c", script]);
    assert.match(alone.shown, /^not a tty\nexit=1\n$/);
    const interactive = new TestTerminal();
    const done = exec(interactive, ["-i"], ["/bin/sh", "-c", script]);
    await interactive.until(/not a tty\n/);
    await interactive.type("line\n");
    await done;
    assert.match(interactive.shown, /got line\nexit=0\n$/);
  });

  test("-t without a terminal at standard input is an error of usage that says what to do", async () => {
    const terminal = new TestTerminal();
    await exec(terminal, ["-it"], ["/bin/sh"], "</dev/null");
    assert.match(terminal.shown, /standard input is not a terminal/);
    assert.match(terminal.shown, /next: leave -t out/);
    assert.match(terminal.shown, /exit=2\n$/);
  });
});
