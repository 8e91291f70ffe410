import { spawn } from "node:child_process";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { HostExec } from "../src/host/exec.ts";
import { acquireFileLock } from "../src/host/file-lock.ts";
import {
  listPids,
  processArguments,
  processStartTicks,
  signalProcess,
} from "../src/host/processes.ts";
import type { Roots } from "../src/host/roots.ts";
import { QemuVmm } from "../src/host/vmm/qemu/qemu-vmm.ts";
import type { NetNamespace } from "./hosts/net-namespace.ts";

export const projectDir: string = join(import.meta.dirname, "..");
const mvm = join(projectDir, "bin", "mvm");
const cacheDir = process.env["MVM_TEST_CACHE"] ?? "/var/cache/mvm-test";
const prepareTimeoutMs = 1_800_000;
const exec = new HostExec();

export interface MvmResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface MvmOptions {
  readonly input?: string;
  /** Default 60 s. */
  readonly timeoutMs?: number;
  /** Commands that touch the network run in one of the test's own. */
  readonly namespace?: NetNamespace;
  /** Sends Ctrl-C after so long. */
  readonly interruptAfterMs?: number;
  /** What runs it, such as a program that gives up privileges first. */
  readonly through?: (program: string, args: readonly string[]) => readonly string[];
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs `bin/mvm` under the given roots; any exit code is an answer. Standard input is empty unless given. */
async function runMvm(
  roots: Roots,
  args: readonly string[],
  options: MvmOptions = {},
): Promise<MvmResult> {
  const [inner = mvm, ...rest] = options.through?.(mvm, args) ?? [mvm, ...args];
  const [program, all] = options.namespace?.command(inner, rest) ?? [inner, rest];
  const child = spawn(program, all, {
    env: { ...environment(), ...environmentOf(roots), ...options.env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? 60_000);
  const { interruptAfterMs } = options;
  const interrupt =
    interruptAfterMs === undefined
      ? undefined
      : setTimeout(() => child.kill("SIGINT"), interruptAfterMs);
  // It may end before it has read its input.
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input ?? "");
  const ended = Promise.withResolvers<number>();
  child.once("error", ended.reject);
  child.once("close", (code, signal) => ended.resolve(code ?? (signal === null ? -1 : 128)));
  try {
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
    return { exitCode: await ended.promise, stdout, stderr };
  } finally {
    clearTimeout(timer);
    clearTimeout(interrupt);
  }
}

/** The variables by which mvm finds its roots. */
function environmentOf(roots: Roots): Record<string, string> {
  return {
    MVM_STATE_DIR: roots.stateDir,
    MVM_CONFIG_DIR: roots.configDir,
    MVM_RUN_DIR: roots.runDir,
  };
}

let prepared: Promise<string> | undefined;

/**
 * A state folder after `mvm add host`: kernel, guest base, builder and programs, and how microVMs run
 * here. It is made once for all checkouts, in MVM_TEST_CACHE or /var/cache/mvm-test, and brought up to
 * date when what it is made of changed. Only its payloads and `host.json` are meant to be used.
 */
function preparedStateDir(): Promise<string> {
  prepared ??= prepare();
  return prepared;
}

async function prepare(): Promise<string> {
  await mkdir(cacheDir, { recursive: true });
  const lock = await acquireFileLock(join(cacheDir, "lock"), {
    waitMs: prepareTimeoutMs,
    label: "preparing the test host",
  });
  try {
    await exec.run(process.execPath, [join(projectDir, "scripts", "bundle.ts")], {
      timeoutMs: 60_000,
    });
    const roots = rootsBelow(cacheDir);
    const { exitCode, stderr } = await runMvm(roots, ["add", "host"], {
      timeoutMs: prepareTimeoutMs,
    });
    if (exitCode !== 0) throw new Error(`mvm add host ended with ${exitCode}: ${stderr}`);
    return roots.stateDir;
  } finally {
    await lock.release();
  }
}

/** Roots of a test's own. Disposing removes them, and fails when the test left a VMM or a mount. */
export class TestRoots implements Roots, AsyncDisposable {
  readonly stateDir: string;
  readonly configDir: string;
  readonly runDir: string;
  /** The folder that all three are in: short, since sockets are made below it. */
  readonly folder: string;

  constructor(folder: string) {
    const { stateDir, configDir, runDir } = rootsBelow(folder);
    this.folder = folder;
    this.stateDir = stateDir;
    this.configDir = configDir;
    this.runDir = runDir;
  }

  /** The variables by which mvm finds these roots. */
  get env(): Record<string, string> {
    return environmentOf(this);
  }

  /** Runs `bin/mvm` under these roots. */
  mvm(args: readonly string[], options: MvmOptions = {}): Promise<MvmResult> {
    return runMvm(this, args, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const left = [
      ...(await this.#endVmms()),
      ...(await this.#endDnsServers()),
      ...(await this.#unmount()),
    ];
    await rm(this.folder, { recursive: true, force: true });
    if (left.length > 0) throw new Error(`the test left behind: ${left.join(", ")}`);
  }

  async #endVmms(): Promise<string[]> {
    const vmm = new QemuVmm(() => Promise.reject(new Error("it is only asked for what runs")));
    const living = await vmm.list(this.folder);
    for (const process of living) await signalProcess(process, "SIGKILL");
    return living.map(({ id, pid }) => `VMM ${id} (pid ${pid})`);
  }

  async #endDnsServers(): Promise<string[]> {
    const left: string[] = [];
    for (const pid of await listPids()) {
      const startTicks = await processStartTicks(pid);
      const args = (await processArguments(pid)) ?? [];
      if (!args.some((arg) => arg.startsWith(`--conf-file=${this.folder}/`))) continue;
      if (startTicks !== undefined) await signalProcess({ pid, startTicks }, "SIGKILL");
      left.push(`DNS server (pid ${pid})`);
    }
    return left;
  }

  async #unmount(): Promise<string[]> {
    const mounts = (await readFile("/proc/self/mountinfo", "utf8"))
      .split("\n")
      .map((line) => line.split(" ")[4] ?? "")
      .filter((path) => path.startsWith(`${this.folder}/`));
    for (const path of mounts) await exec.run("umount", ["-l", path], { timeoutMs: 10_000 });
    return mounts.map((path) => `mount ${path}`);
  }
}

/** Empty roots, as on a machine where mvm was never used. */
export async function emptyRoots(): Promise<TestRoots> {
  const folder = await mkdtemp("/tmp/mvm-");
  // dnsmasq drops its privileges and must still reach its files.
  await chmod(folder, 0o711);
  return new TestRoots(folder);
}

/** Roots of a prepared host: payloads and `host.json` of `preparedStateDir` and nothing else. */
export async function freshRoots(): Promise<TestRoots> {
  const source = await preparedStateDir();
  const roots = await emptyRoots();
  await mkdir(roots.stateDir, { mode: 0o755 });
  await symlink(join(source, "payloads"), join(roots.stateDir, "payloads"));
  await copyFile(join(source, "host.json"), join(roots.stateDir, "host.json"));
  return roots;
}

function rootsBelow(folder: string): Roots {
  return {
    stateDir: join(folder, "state"),
    configDir: join(folder, "etc"),
    runDir: join(folder, "run"),
  };
}

/** This process's environment without the variables that lead mvm elsewhere. */
function environment(): Record<string, string> {
  const ours = new Set(["MVM_NODE", "NODE_TEST_CONTEXT", "NODE_OPTIONS"]);
  return Object.fromEntries(
    Object.entries(process.env).filter(
      (entry): entry is [string, string] => entry[1] !== undefined && !ours.has(entry[0]),
    ),
  );
}
