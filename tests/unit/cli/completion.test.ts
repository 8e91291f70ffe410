import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { access, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  type Shell,
  completionScripts,
  proposeInstances,
  proposeTenants,
  shells,
} from "../../../src/cli/completion.ts";
import type { CliContext } from "../../../src/cli/context.ts";
import { HostLacksError } from "../../../src/domain/errors.ts";
import { FileStore } from "../../../src/host/store/file-store.ts";
import { aPool, aTenant, anInstance } from "../../builders/records.ts";

const projectDir = join(import.meta.dirname, "..", "..", "..");
const isRoot = process.getuid?.() === 0;

function has(program: string): boolean {
  return spawnSync(program, ["--version"]).error === undefined;
}

describe("completion", () => {
  let folder = "";
  let env: Record<string, string> = {};

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-completion-"));
    await symlink(join(projectDir, "bin", "mvm"), join(folder, "mvm"));
    env = {
      PATH: `${folder}:${process.env["PATH"] ?? ""}`,
      HOME: folder,
      MVM_NODE: process.execPath,
      MVM_STATE_DIR: join(folder, "state"),
      MVM_CONFIG_DIR: join(folder, "etc"),
      MVM_RUN_DIR: join(folder, "run"),
    };
    const roots = {
      stateDir: join(folder, "state"),
      configDir: join(folder, "etc"),
      runDir: join(folder, "run"),
    };
    const store = new FileStore(roots);
    await store.saveTenant(aTenant());
    await store.savePool(aPool("web"));
    await store.saveInstance(anInstance("web", 2, "running"));
    // What a broken disk or somebody with a sense of humour leaves.
    const tenants = join(folder, "state", "tenants");
    for (const name of ["acme-cut-off", "acme$(touch pwned)", "acme\nlines"]) {
      await mkdir(join(tenants, name));
      await writeFile(join(tenants, name, "tenant.json"), '{"schema_version": 2, "tena');
    }
  });
  after(() => rm(folder, { recursive: true }));

  /** What a shell proposes for a command line; the last word is the one to complete. */
  function proposed(shell: Shell, ...words: string[]): string[] {
    const asks: Readonly<Record<Shell, string>> = {
      bash: `source <(mvm completion bash)
        COMP_WORDS=(mvm "$@"); COMP_CWORD=$#; _mvm mvm "\${!#}" x
        printf '%s\\n' "\${COMPREPLY[@]}"`,
      zsh: `compdef() { :; }; compadd() { shift; printf '%s\\n' "\${(@P)1}"; }
        source <(mvm completion zsh); words=(mvm "$@"); CURRENT=$#words; _mvm`,
      fish: `mvm completion fish | source
        complete --do-complete (string join ' ' mvm $argv)`,
    };
    const options = shell === "bash" ? ["--norc", "--noprofile"] : [];
    const args = shell === "fish" ? words : ["ask", ...words];
    const ended = spawnSync(shell, [...options, "-c", asks[shell], ...args], {
      env,
      cwd: folder,
      encoding: "utf8",
      timeout: 60_000,
    });
    assert.equal(ended.stderr, "");
    return ended.stdout.split("\n").filter((line) => line !== "");
  }

  for (const shell of shells) {
    const skip = has(shell) ? false : `${shell} is not installed`;

    test(`in ${shell} proposes commands`, { skip }, () => {
      assert.deepEqual(proposed(shell, "te"), ["tenant"]);
      assert.deepEqual(proposed(shell, "tenant", "li"), ["list"]);
    });

    test(
      `in ${shell} proposes the names there are, past records that cannot be read`,
      { skip: isRoot ? skip : "needs root to read records" },
      async () => {
        assert.deepEqual(proposed(shell, "tenant", "info", "ac"), ["acme"]);
        assert.deepEqual(proposed(shell, "pool", "scale", "acme/"), ["acme/web"]);
        assert.deepEqual(proposed(shell, "instance", "start", "acme/w"), ["acme/web/i-00000002"]);
        assert.deepEqual(proposed(shell, "instance", "start", "i-"), ["i-00000002"]);
        assert.deepEqual(proposed(shell, "explain", "acme/web"), [
          "acme/web",
          "acme/web/i-00000002",
        ]);
        await assert.rejects(access(join(folder, "pwned")));
      },
    );

    test(`in ${shell} is silent where there is nothing to propose`, { skip }, () => {
      assert.deepEqual(proposed(shell, "tenant", "info", "zzz"), []);
      assert.deepEqual(proposed(shell, "nonsense", "words", "x"), []);
    });
  }

  test("has nothing in its scripts that a name could change", () => {
    for (const shell of shells) assert.doesNotMatch(completionScripts[shell], /eval|compgen -W/);
  });
});

test("who may not read the records is proposed no names, and no error", async () => {
  const context = {
    records: () => Promise.reject(new HostLacksError("mvm needs root")),
  } as unknown as CliContext;
  assert.deepEqual(await proposeTenants.call(context, "ac"), []);
  assert.deepEqual(await proposeInstances.call(context, "i-"), []);
});
