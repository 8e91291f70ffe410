import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { access, cp, mkdir, mkdtemp, readFile, readdir, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { FileStore } from "../../src/host/store/file-store.ts";
import { findFlake } from "../../src/image/flake-source.ts";
import { aTenant } from "../builders/records.ts";

const projectDir = join(import.meta.dirname, "..", "..");
const isRoot = process.getuid?.() === 0;

function run(program: string, args: readonly string[], options: object): string {
  const ended = spawnSync(program, args, { encoding: "utf8", timeout: 120_000, ...options });
  assert.equal(ended.status, 0, `${program} ${args.join(" ")}: ${ended.stderr}`);
  return ended.stdout;
}

suite("the package that `npm pack` makes", () => {
  let folder = "";
  let installed = "";

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-package-"));
    const checkout = join(folder, "checkout");
    const parts = ["bin", "src", "scripts", "nix", "docs", "package.json", "package-lock.json"];
    for (const part of [...parts, "README.md", "LICENSE"]) {
      await cp(join(projectDir, part), join(checkout, part), { recursive: true });
    }
    await symlink(join(projectDir, "node_modules"), join(checkout, "node_modules"));
    run(process.execPath, ["scripts/bundle.ts"], { cwd: checkout });
    const env = { ...process.env, npm_config_cache: join(folder, "cache") };
    run("npm", ["pack", "--offline", "--pack-destination", folder], { cwd: checkout, env });
    // Nothing lies beside it: what it needs it must bring, but for Node.
    installed = join(folder, "elsewhere", "node_modules", "mvm");
    await mkdir(installed, { recursive: true });
    const packed = (await readdir(folder)).find((name) => name.endsWith(".tgz")) ?? "";
    run("tar", ["-xzf", join(folder, packed), "--strip-components=1", "-C", installed], {});
    await rm(checkout, { recursive: true });
  });
  after(() => rm(folder, { recursive: true }));

  function mvm(...args: string[]): string {
    const env = {
      PATH: process.env["PATH"],
      MVM_NODE: process.execPath,
      MVM_STATE_DIR: join(folder, "state"),
      MVM_CONFIG_DIR: join(folder, "etc"),
      MVM_RUN_DIR: join(folder, "run"),
    };
    return run(join(installed, "bin", "mvm"), args, { env });
  }

  test("shows its help and its version", async () => {
    assert.match(mvm("--help"), /^USAGE\n {2}mvm add host/);
    const { version } = JSON.parse(await readFile(join(projectDir, "package.json"), "utf8")) as {
      version: string;
    };
    assert.equal(mvm("--version").trim(), version);
  });

  test(
    "lists tenants, and loads the engine and the host's setup",
    { skip: isRoot ? false : "mvm needs root" },
    async () => {
      const store = new FileStore({
        stateDir: join(folder, "state"),
        configDir: join(folder, "etc"),
        runDir: join(folder, "run"),
      });
      await store.saveTenant(aTenant());
      assert.match(mvm("tenant", "list"), /^acme /m);
      assert.match(mvm("connect", "acme"), /Deployment: acme/);
      assert.match(mvm("node", "info"), /Version: +mvm /);
    },
  );

  test("has the files of guests and the built-in flakes", async () => {
    for (const file of [
      "dist/guest/agent.mjs",
      "dist/guest/gateway.mjs",
      "nix/guest/init",
      "nix/builder/build",
      "nix/payloads/openclaw/package-lock.json",
    ]) {
      await access(join(installed, file));
    }
    await findFlake("builtin:hello", installed);
    await findFlake("builtin:openclaw", installed);
  });

  test("has nothing of the checkout that it does not need", async () => {
    assert.deepEqual((await readdir(installed)).toSorted(), [
      "LICENSE",
      "README.md",
      "bin",
      "dist",
      "docs",
      "nix",
      "package.json",
    ]);
  });
});
