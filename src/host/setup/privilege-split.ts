import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { HostLacksError } from "../../domain/errors.ts";
import type { Exec } from "../../ports/exec.ts";
import { readFileIfAny, writeFileAtomic } from "../files.ts";
import type { Roots } from "../roots.ts";
import type { StateOwner } from "../state-owner.ts";
import { handOver } from "./hand-over.ts";

/** The user that agentd runs as; operators are in its group, and may ask agentd. */
const agentUser = "mvm";
/** Agentd alone is in it: who is may ask hostd, and add to the folders of records. */
const agentGroup = "mvm-agentd";

const toolTimeoutMs = 60_000;
const services: readonly string[] = ["mvm-hostd.service", "mvm-agentd.service"];
const units: readonly string[] = ["mvm-vm.slice", ...services];
const installedProgram = "/usr/local/bin/mvm";

interface PrivilegeSplitOptions {
  readonly exec: Exec;
  readonly roots: Roots;
  /** The folder of mvm itself, where `bin/mvm` and `deploy/systemd` are. */
  readonly projectDir: string;
  /** Where this machine's own units lie. Default `/etc/systemd/system`. */
  readonly unitDir?: string;
}

/**
 * Gives agentd a user of its own, hands it the records, and lets the service manager run it and hostd.
 * Only what is missing or different is changed; a run that died goes on. @returns what it did, a line each.
 */
export async function splitPrivileges(options: PrivilegeSplitOptions): Promise<string[]> {
  const { exec, roots } = options;
  const done = await ensureUser(exec);
  const owner = await findOwner(exec);
  const changed = await handOver(roots, owner);
  if (changed > 0) done.push(`handed over: ${changed} files and folders to user ${agentUser}`);
  const written = await writeUnits(options);
  const systemctl = (...args: readonly string[]): Promise<unknown> =>
    exec.run("systemctl", args, { timeoutMs: toolTimeoutMs });
  if (written.length > 0) {
    done.push(`installed: ${written.join(", ")}`);
    await systemctl("daemon-reload");
  }
  await systemctl("enable", "--now", ...services);
  // What runs already is of the former units. VMMs are in scopes of their own and do not notice.
  if (written.length > 0) await systemctl("restart", ...services);
  return done;
}

async function ensureUser(exec: Exec): Promise<string[]> {
  const done: string[] = [];
  for (const group of [agentUser, agentGroup]) {
    if ((await entryOf(exec, "group", group)) !== undefined) continue;
    await exec.run("groupadd", ["--system", group], { timeoutMs: toolTimeoutMs });
    done.push(`made: group ${group}`);
  }
  if ((await entryOf(exec, "passwd", agentUser)) === undefined) {
    const args = ["--system", "--gid", agentUser, "--groups", agentGroup, "--no-create-home"];
    const home = ["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", agentUser];
    await exec.run("useradd", [...args, ...home], { timeoutMs: toolTimeoutMs });
    done.push(`made: user ${agentUser}`);
  }
  return done;
}

async function findOwner(exec: Exec): Promise<StateOwner> {
  const uid = Number((await entryOf(exec, "passwd", agentUser))?.[2]);
  const gid = Number((await entryOf(exec, "group", agentGroup))?.[2]);
  if (uid > 0 && gid > 0) return { uid, gid };
  throw new HostLacksError(`user ${agentUser} or group ${agentGroup} cannot be used for agentd`, {
    hint: `each must be there and not root's: getent passwd ${agentUser}; getent group ${agentGroup}`,
  });
}

/** An entry of a name service database, field by field; see getent(1), whose code 2 says that there is none. */
async function entryOf(exec: Exec, database: string, key: string): Promise<string[] | undefined> {
  const { exitCode, stdout, stderr } = await exec.tryRun("getent", [database, key], {
    timeoutMs: toolTimeoutMs,
  });
  if (exitCode === 0) return stdout.trim().split(":");
  if (exitCode === 2) return undefined;
  throw new HostLacksError(`getent ${database} ${key} failed: ${stderr.trim()}`);
}

/** @returns the names of the units that were written: those that were not there, or not as they should be. */
async function writeUnits({
  projectDir,
  unitDir = "/etc/systemd/system",
}: PrivilegeSplitOptions): Promise<string[]> {
  const written: string[] = [];
  await mkdir(unitDir, { recursive: true, mode: 0o755 });
  for (const unit of units) {
    const given = await readFile(join(projectDir, "deploy", "systemd", unit), "utf8");
    const text = given.replaceAll(installedProgram, join(projectDir, "bin", "mvm"));
    const path = join(unitDir, unit);
    if ((await readFileIfAny(path)) === text) continue;
    await writeFileAtomic(path, text, 0o644);
    written.push(unit);
  }
  return written;
}
