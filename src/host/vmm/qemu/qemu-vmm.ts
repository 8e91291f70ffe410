import { spawn } from "node:child_process";
import { mkdir, readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import * as z from "zod";
import { HostLacksError, OperationError } from "../../../domain/errors.ts";
import type { Vmm, VmmCapabilities, VmmProcess, VmmSpec } from "../../../ports/vmm.ts";
import { plainEnvironment } from "../../exec.ts";
import { isErrno } from "../../files.ts";
import { lastLogLines } from "../../log-files.ts";
import { type OwnScope, noScope } from "../../own-scope.ts";
import {
  isAlive,
  listPids,
  processArguments,
  processStartTicks,
  processUid,
  signalProcess,
} from "../../processes.ts";
import { type ConsoleKeeper, startConsoleKeeper, untilDrained } from "../console-keeper.ts";
import { isVmmUid } from "../uids.ts";
import { agentSocketPath, qemuArguments, qemuProgram, qmpSocketPath } from "./command-line.ts";
import type { QemuPlatform } from "./platform.ts";
import { QmpClient } from "./qmp-client.ts";

/**
 * A guest's memory holds its secrets. One byte is less than any core file, and the one limit that also
 * keeps the kernel from handing a core to a program; see core(5) and `do_coredump`.
 */
const noCoreDump = ["--core=1:1", "--"];
const startTimeoutMs = 20_000;
const killTimeoutMs = 10_000;
const pollMs = 10;

const statusAnswer = z.looseObject({ status: z.string() });

/** Runs microVMs under QEMU. Finds its own processes again by their arguments, never by a pid alone. */
export class QemuVmm implements Vmm {
  readonly capabilities: VmmCapabilities = {
    memorySnapshot: false,
    lazyRestore: false,
    vsock: false,
    jail: false,
    driveHotSwap: false,
  };
  readonly #platform: () => Promise<QemuPlatform>;
  readonly #scope: OwnScope;

  /** `platform` is asked at each start, since only `mvm add host` finds it out. */
  constructor(platform: () => Promise<QemuPlatform>, scope: OwnScope = noScope) {
    this.#platform = platform;
    this.#scope = scope;
  }

  async start(spec: VmmSpec, signal?: AbortSignal): Promise<VmmProcess> {
    const args = qemuArguments(spec, await this.#platform());
    await requireTaps(spec);
    await mkdir(spec.runDir, { recursive: true, mode: 0o700 });
    await mkdir(spec.logDir, { recursive: true, mode: 0o700 });
    await rm(vmmLog(spec), { force: true });
    const keeper = await startConsoleKeeper(
      spec.runDir,
      [consoleLog(spec), vmmLog(spec)],
      spec.keptConsoleBytes,
      this.#scope(`mvm-console-${spec.id}`),
    );
    const [consoleInput, logInput] = keeper.inputs;
    const [program, ...words] = [...this.#scope(`mvm-vm-${spec.id}`), "prlimit"];
    const child = spawn(
      program,
      [...words, ...noCoreDump, "setpriv", "--no-new-privs", "--", qemuProgram, ...args],
      {
        env: plainEnvironment,
        cwd: "/",
        // A session of its own: neither Ctrl-C nor the end of this process ends the guest.
        detached: true,
        stdio: ["ignore", logInput, logInput, consoleInput],
      },
    );
    keeper.handOver();
    const failed = Promise.withResolvers<never>();
    child.once("error", (error) => failed.reject(error));
    child.once("exit", (code, signal) => failed.reject(exitError(code, signal)));
    // Whoever loses the race below must not become an unhandled rejection later.
    failed.promise.catch(() => undefined);
    child.unref();
    const decided = new AbortController();
    const signals = signal === undefined ? [decided.signal] : [decided.signal, signal];
    try {
      const running = this.#untilRunning(spec, child.pid, AbortSignal.any(signals));
      return await Promise.race([failed.promise, running]);
    } catch (error) {
      child.kill("SIGKILL");
      if (error instanceof HostLacksError) throw error;
      throw new OperationError(`VMM ${spec.id} did not start: ${await startupLog(spec, keeper)}`, {
        cause: error,
      });
    } finally {
      // A QEMU that failed is not asked for its status any longer.
      decided.abort();
    }
  }

  async list(runRoot: string): Promise<VmmProcess[]> {
    const found = await Promise.all((await listPids()).map((pid) => identify(pid, runRoot)));
    return found.filter((process) => process !== undefined);
  }

  async pause(process: VmmProcess): Promise<void> {
    await this.#steer(process, "stop", "paused");
  }

  async resume(process: VmmProcess): Promise<void> {
    await this.#steer(process, "cont", "running");
  }

  async stop(process: VmmProcess, graceMs: number): Promise<void> {
    if (!(await gone(process, graceMs))) {
      await signalProcess(process, "SIGKILL");
      if (!(await gone(process, killTimeoutMs))) {
        throw new OperationError(`VMM ${process.id} (pid ${process.pid}) does not end when killed`);
      }
    }
    // Whoever asks next for the guest's last words finds them.
    await untilDrained(process.runDir);
  }

  async openChannel(process: VmmProcess, signal?: AbortSignal): Promise<Duplex> {
    const socket = connect(agentSocketPath(process.runDir));
    const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
    socket.once("connect", () => resolve(socket));
    socket.once("error", (error) =>
      reject(new OperationError(`the channel to ${process.id} cannot be opened`, { cause: error })),
    );
    signal?.addEventListener("abort", () => socket.destroy(new OperationError("interrupted")), {
      once: true,
    });
    return promise;
  }

  async #untilRunning(
    spec: VmmSpec,
    pid: number | undefined,
    signal: AbortSignal,
  ): Promise<VmmProcess> {
    if (pid === undefined) throw new OperationError("QEMU was not spawned");
    const deadlineMs = performance.now() + startTimeoutMs;
    while (performance.now() < deadlineMs) {
      signal.throwIfAborted();
      const startTicks = await processStartTicks(pid);
      const status = startTicks === undefined ? undefined : await statusOf(spec.runDir);
      // Interrupted while it was asked: whoever waits has gone.
      signal.throwIfAborted();
      if (startTicks !== undefined && status === "running") {
        return { id: spec.id, runDir: spec.runDir, pid, startTicks };
      }
      await delay(pollMs);
    }
    throw new OperationError(`QEMU was not running after ${startTimeoutMs} ms`);
  }

  async #steer(process: VmmProcess, command: string, wanted: string): Promise<void> {
    if (!(await isAlive(process))) throw new OperationError(`VMM ${process.id} is gone`);
    const qmp = await QmpClient.open(qmpSocketPath(process.runDir));
    try {
      await qmp.execute(command);
      const { status } = statusAnswer.parse(await qmp.execute("query-status"));
      if (status !== wanted) {
        throw new OperationError(`VMM ${process.id} is ${status} and not ${wanted}`);
      }
    } finally {
      qmp.close();
    }
  }
}

/** QEMU would make a TAP that is missing: outside every bridge and filter. @throws OperationError */
async function requireTaps({ id, nics }: VmmSpec): Promise<void> {
  // Of this process's network namespace, whatever is mounted on /sys.
  const links = await readFile("/proc/self/net/dev", "utf8");
  const names = new Set(links.split("\n").map((line) => line.split(":")[0]?.trim()));
  const missing = nics.find(({ tap }) => !names.has(tap));
  if (missing !== undefined) {
    throw new OperationError(`VMM ${id} did not start: there is no TAP ${missing.tap}`);
  }
}

async function statusOf(runDir: string): Promise<string | undefined> {
  let qmp: QmpClient;
  try {
    qmp = await QmpClient.open(qmpSocketPath(runDir));
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    // QEMU has not made its socket yet.
    if (isErrno(cause, "ENOENT") || isErrno(cause, "ECONNREFUSED")) return undefined;
    throw error;
  }
  try {
    return statusAnswer.parse(await qmp.execute("query-status")).status;
  } finally {
    qmp.close();
  }
}

async function identify(pid: number, runRoot: string): Promise<VmmProcess | undefined> {
  const args = await processArguments(pid);
  if (args === undefined) return undefined;
  const id = /^guest=([^,]+),process=mvm-/.exec(args[args.indexOf("-name") + 1] ?? "")?.[1];
  const socket = /^unix:(.+),server=on,wait=off$/.exec(args[args.indexOf("-qmp") + 1] ?? "")?.[1];
  if (id === undefined || socket === undefined) return undefined;
  const runDir = dirname(socket.replaceAll(",,", ","));
  if (!runDir.startsWith(`${runRoot}/`)) return undefined;
  // Anyone may start a program with these arguments; only root and VMMs have these uids.
  const uid = await processUid(pid);
  if (uid === undefined || !isVmmUid(uid)) return undefined;
  const startTicks = await processStartTicks(pid);
  return startTicks === undefined ? undefined : { id, runDir, pid, startTicks };
}

async function gone(process: VmmProcess, waitMs: number): Promise<boolean> {
  const deadlineMs = performance.now() + waitMs;
  while (await isAlive(process)) {
    if (performance.now() >= deadlineMs) return false;
    await delay(pollMs);
  }
  return true;
}

function exitError(code: number | null, signal: NodeJS.Signals | null): Error {
  // setpriv(1): 127 means that there is no such program.
  if (code === 127) {
    return new HostLacksError(`${qemuProgram} is not installed`, { hint: "run `mvm add host`" });
  }
  return new OperationError(`QEMU ended at once (${signal ?? `exit code ${code}`})`);
}

async function startupLog(spec: VmmSpec, keeper: ConsoleKeeper): Promise<string> {
  await keeper.drained();
  const lines = [
    ...(await lastLogLines(vmmLog(spec), 5)),
    ...(await lastLogLines(consoleLog(spec), 5)),
  ];
  return lines.length === 0 ? "it printed nothing" : lines.join(" | ");
}

function consoleLog({ logDir }: VmmSpec): string {
  return join(logDir, "console.log");
}

function vmmLog({ logDir }: VmmSpec): string {
  return join(logDir, "vmm.log");
}
