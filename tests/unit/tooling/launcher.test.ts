import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmod, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";

const projectDir = join(import.meta.dirname, "..", "..", "..");
const launcherPath = join(projectDir, "bin", "mvm");

/** A Node that says which version it is and, when it is asked for more, that it was started. */
function nodeOf(major: number): string {
  return `#!/bin/sh\nif [ "$1" = -p ]; then echo ${major}; else echo "node ${major} runs $*"; fi\n`;
}

/** A copy of the launcher in a project of its own, with programs on PATH that a test chooses. */
class Launcher implements AsyncDisposable {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async make(): Promise<Launcher> {
    const folder = await mkdtemp(join(tmpdir(), "mvm-bin-"));
    await mkdir(join(folder, "bin"));
    await mkdir(join(folder, "path"));
    await cp(launcherPath, join(folder, "bin", "mvm"));
    return new Launcher(folder);
  }

  async program(path: string, text: string): Promise<string> {
    const file = join(this.folder, path);
    await mkdir(join(file, ".."), { recursive: true });
    await writeFile(file, text);
    await chmod(file, 0o755);
    return file;
  }

  run(
    args: readonly string[],
    env: Record<string, string> = {},
    launcher = join(this.folder, "bin", "mvm"),
    from = ".",
  ): { status: number | null; stdout: string; stderr: string } {
    // The tools of a shell script, and no Node but the test's.
    const path = `${join(this.folder, "path")}:${join(this.folder, "tools")}`;
    return spawnSync("/bin/sh", [launcher, ...args], {
      env: { PATH: path, ...env },
      cwd: join(this.folder, from),
      encoding: "utf8",
      timeout: 20_000,
    });
  }

  async withTools(): Promise<this> {
    await mkdir(join(this.folder, "tools"));
    for (const tool of ["readlink", "dirname", "uname"]) {
      await symlink(`/usr/bin/${tool}`, join(this.folder, "tools", tool));
    }
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true });
  }
}

const bundled = `node_modules/node-linux-${process.arch}/bin/node`;

test("the Node that npm installed beside mvm is taken before an older one on PATH", async () => {
  await using launcher = await (await Launcher.make()).withTools();
  await launcher.program("path/node", nodeOf(20));
  await launcher.program(bundled, nodeOf(24));
  const { status, stdout } = launcher.run(["tenant", "list", "a b"]);
  assert.equal(status, 0);
  assert.match(stdout, /^node 24 runs .*\/src\/main\.ts tenant list a b$/m);
});

test("the bundle is started where there is one", async () => {
  await using launcher = await (await Launcher.make()).withTools();
  await launcher.program(bundled, nodeOf(24));
  await launcher.program("dist/start.cjs", "");
  assert.match(launcher.run(["doctor"]).stdout, /^node 24 runs .*\/dist\/start\.cjs doctor$/m);
});

test("the Node that npm put beside the installed package is taken", async () => {
  await using launcher = await (await Launcher.make()).withTools();
  await launcher.program(`node_modules/mvm/dist/start.cjs`, "");
  await launcher.program("node_modules/mvm/bin/mvm", await readFile(launcherPath, "utf8"));
  await launcher.program(bundled, nodeOf(24));
  const installed = join(launcher.folder, "node_modules", "mvm", "bin", "mvm");
  assert.match(launcher.run([], {}, installed).stdout, /^node 24 runs .*\/mvm\/dist\/start\.cjs$/m);
});

for (const [from, path] of [
  [".", "bin/mvm"],
  ["bin", "mvm"],
  ["bin", "./mvm"],
  ["path", "../bin/mvm"],
] as const) {
  test(`started as ${path} in ${from}, the launcher finds the project`, async () => {
    await using launcher = await (await Launcher.make()).withTools();
    await launcher.program(bundled, nodeOf(24));
    const { status, stdout, stderr } = launcher.run([], {}, path, from);
    assert.equal(status, 0, stderr);
    const program = /runs .* (\S+main\.ts)/.exec(stdout)?.[1] ?? "";
    assert.equal(resolve(launcher.folder, from, program), join(launcher.folder, "src", "main.ts"));
  });
}

test("a Node on PATH that is new enough is taken when there is none beside mvm", async () => {
  await using launcher = await (await Launcher.make()).withTools();
  await launcher.program("path/node", nodeOf(25));
  assert.match(launcher.run([]).stdout, /^node 25 runs /m);
});

test("MVM_NODE chooses another", async () => {
  await using launcher = await (await Launcher.make()).withTools();
  await launcher.program(bundled, nodeOf(24));
  const other = await launcher.program("other-node", nodeOf(26));
  assert.match(launcher.run([], { MVM_NODE: other }).stdout, /^node 26 runs /m);
});

test("a link to the launcher finds the project it lies in", async () => {
  await using launcher = await (await Launcher.make()).withTools();
  await launcher.program(bundled, nodeOf(24));
  const link = join(launcher.folder, "path", "mvm");
  await symlink(join(launcher.folder, "bin", "mvm"), link);
  const { stdout } = launcher.run([], {}, link);
  assert.match(stdout, new RegExp(`runs .*${launcher.folder}/src/main\\.ts`));
});

for (const [what, major] of [
  ["an older Node alone", 20],
  ["no Node", undefined],
] as const) {
  test(`with ${what}, the launcher says what to do and ends with 7`, async () => {
    await using launcher = await (await Launcher.make()).withTools();
    if (major !== undefined) await launcher.program("path/node", nodeOf(major));
    const { status, stdout, stderr } = launcher.run([]);
    assert.equal(status, 7);
    assert.equal(stdout, "");
    assert.match(stderr, /Node 24 or newer is needed\n.*quickstart/);
  });
}
