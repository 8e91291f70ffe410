import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { HostLacksError } from "../../../../src/domain/errors.ts";
import { splitPrivileges } from "../../../../src/host/setup/privilege-split.ts";
import type { Exec, RunResult } from "../../../../src/ports/exec.ts";
import { TemporaryRoots } from "../../../builders/temporary-roots.ts";
import { projectDir } from "../../../test-host.ts";

/** A machine of which only its users, its groups and what its service manager was told are there. */
class Machine implements Exec {
  readonly told: string[] = [];
  readonly entries: Map<string, string> = new Map();

  async run(program: string, args: readonly string[]): Promise<RunResult> {
    const result = await this.tryRun(program, args);
    assert.equal(result.exitCode, 0);
    return result;
  }

  async tryRun(program: string, args: readonly string[]): Promise<RunResult> {
    const name = args.at(-1) ?? "";
    if (program === "getent") {
      const entry = this.entries.get(args.join(" "));
      return { exitCode: entry === undefined ? 2 : 0, stdout: `${entry ?? ""}\n`, stderr: "" };
    }
    this.told.push(`${program} ${args.join(" ")}`);
    const id = 900 + this.entries.size;
    if (program === "groupadd") this.entries.set(`group ${name}`, `${name}:x:${id}:`);
    if (program === "useradd") this.entries.set(`passwd ${name}`, `${name}:x:${id}:${id}::/:/`);
    return { exitCode: 0, stdout: "", stderr: "" };
  }
}

const skip = process.getuid?.() === 0 ? false : "needs root: it gives files away";

test(
  "agentd gets a user of its own, in a group that nobody else is in, and both services run",
  { skip },
  async () => {
    await using roots = await TemporaryRoots.make();
    const machine = new Machine();
    const unitDir = join(roots.folder, "units");
    const options = { exec: machine, roots, projectDir, unitDir };
    await splitPrivileges(options);
    assert.match(machine.told.join("\n"), /useradd --system --gid mvm --groups mvm-agentd /);
    assert.deepEqual(machine.told.slice(-3), [
      "systemctl daemon-reload",
      "systemctl enable --now mvm-hostd.service mvm-agentd.service",
      "systemctl restart mvm-hostd.service mvm-agentd.service",
    ]);
    const unit = await readFile(join(unitDir, "mvm-hostd.service"), "utf8");
    assert.match(unit, new RegExp(`^ExecStart=${projectDir}/bin/mvm hostd serve$`, "m"));
  },
);

test(
  "doing it again changes nothing and restarts nothing; a unit that was changed is put right",
  { skip },
  async () => {
    await using roots = await TemporaryRoots.make();
    const machine = new Machine();
    const unitDir = join(roots.folder, "units");
    const options = { exec: machine, roots, projectDir, unitDir };
    await splitPrivileges(options);
    machine.told.length = 0;
    assert.deepEqual(await splitPrivileges(options), []);
    assert.deepEqual(machine.told, ["systemctl enable --now mvm-hostd.service mvm-agentd.service"]);
    await writeFile(join(unitDir, "mvm-agentd.service"), "[Service]\nUser=root\n");
    assert.deepEqual(await splitPrivileges(options), ["installed: mvm-agentd.service"]);
    assert.match(await readFile(join(unitDir, "mvm-agentd.service"), "utf8"), /^User=mvm$/m);
  },
);

test("a user that is root's is not taken for agentd's", { skip }, async () => {
  await using roots = await TemporaryRoots.make();
  const machine = new Machine();
  machine.entries.set("passwd mvm", "mvm:x:0:0::/:/");
  machine.entries.set("group mvm", "mvm:x:900:");
  machine.entries.set("group mvm-agentd", "mvm-agentd:x:901:");
  const options = { exec: machine, roots, projectDir, unitDir: join(roots.folder, "units") };
  await assert.rejects(splitPrivileges(options), HostLacksError);
});

test("agentd's unit gives it no capability, and neither unit lets its service gain any", async () => {
  const unit = (name: string): Promise<string> =>
    readFile(join(projectDir, "deploy", "systemd", name), "utf8");
  const agentd = await unit("mvm-agentd.service");
  for (const line of [/^CapabilityBoundingSet=$/m, /^AmbientCapabilities=$/m, /^User=mvm$/m]) {
    assert.match(agentd, line);
  }
  const hostd = await unit("mvm-hostd.service");
  for (const text of [agentd, hostd]) assert.match(text, /^NoNewPrivileges=yes$/m);
  assert.doesNotMatch(hostd, /CAP_SYS_(?:MODULE|BOOT|RAWIO|TIME)|CAP_BPF|CAP_MKNOD/);
  // With a mount namespace of its own, what it mounts would be gone for its successor.
  const mountNamespace =
    /^(?:ProtectSystem|ProtectHome|PrivateTmp|PrivateDevices|PrivateMounts|ProtectKernel\w+|ProtectControlGroups|ProtectProc|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|TemporaryFileSystem|RootDirectory)=/m;
  assert.doesNotMatch(hostd, mountNamespace);
});
