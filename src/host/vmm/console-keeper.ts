import { type ChildProcess, type StdioPipe, spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { OperationError } from "../../domain/errors.ts";
import { plainEnvironment } from "../exec.ts";
import { isErrno } from "../files.ts";
import {
  type ProcessIdentity,
  listPids,
  processArguments,
  processStartTicks,
  processUid,
  signalProcess,
} from "../processes.ts";
import { keepConsole } from "./keep-console.ts";

/** How long a keeper may take to write what is left when its VMM is gone. */
const drainTimeoutMs = 2000;
const pollMs = 5;
/** Of each log, when the caller names no other. */
const defaultKeptBytes = 256 * 1024;
/** What keeps the memory of a keeper small: there is one for each VMM. */
const smallNode = [
  "--jitless",
  "--v8-pool-size=0",
  "--max-semi-space-size=1",
  "--max-old-space-size=16",
];

export interface ConsoleKeeper {
  /** The descriptors that a VMM inherits, in the order of the paths; `handOver` gives them up here. */
  readonly inputs: readonly Socket[];
  /** To be called when the VMM was spawned, or was not: the keeper ends with the last who holds an input. */
  handOver(): void;
  /** Ends when all that was printed is written. */
  drained(): Promise<void>;
}

/**
 * Starts the process that keeps the logs of a VMM within a bound: it outlives mvm and ends with the VMM.
 *
 * @param runDir names the keeper, so that it is found again by `untilDrained`.
 * @param scope words in front of its command, by which it outlives the service that starts it.
 * @throws OperationError when it cannot be started.
 */
export async function startConsoleKeeper(
  runDir: string,
  paths: readonly string[],
  keptBytes: number = defaultKeptBytes,
  scope: readonly string[] = [],
): Promise<ConsoleKeeper> {
  for (const path of paths) await makeLog(path);
  const inputs: StdioPipe[] = paths.map(() => "pipe");
  const program = ["--eval", `(${keepConsole.toString()})()`, "--", keeperName(runDir)];
  const args = [...smallNode, ...program, String(keptBytes), ...paths];
  const [first = "", ...others] = [...scope, process.execPath, ...args];
  const child = spawn(first, others, {
    env: plainEnvironment,
    cwd: "/",
    detached: true,
    stdio: ["ignore", "ignore", "ignore", ...inputs],
  });
  await spawned(child);
  child.unref();
  const sockets = child.stdio.slice(3) as Socket[];
  return {
    inputs: sockets,
    handOver: () => sockets.forEach((socket) => socket.destroy()),
    drained: () => untilDrained(runDir),
  };
}

/** Waits until the keeper of a VMM that is gone has written its last lines; one that hangs is ended. */
export async function untilDrained(runDir: string): Promise<void> {
  const deadlineMs = performance.now() + drainTimeoutMs;
  for (;;) {
    const keeper = await findKeeper(runDir);
    if (keeper === undefined) return;
    if (performance.now() >= deadlineMs) {
      await signalProcess(keeper, "SIGKILL");
      return;
    }
    await delay(pollMs);
  }
}

/** Makes a log that is not there, so that a reader finds it before the keeper has begun. */
async function makeLog(path: string): Promise<void> {
  const { O_APPEND, O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;
  try {
    await (await open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600)).close();
  } catch (error) {
    // A link in its place, or a full disk: the keeper writes there when it can, and a guest runs without.
    if (!isErrno(error, "ELOOP") && !isErrno(error, "ENOSPC")) throw error;
  }
}

function keeperName(runDir: string): string {
  return `mvm-console ${runDir}`;
}

/** By its arguments and its user: any program can call itself by any name, but not run as whoever runs mvm. */
async function findKeeper(runDir: string): Promise<ProcessIdentity | undefined> {
  for (const pid of await listPids()) {
    if ((await processArguments(pid))?.includes(keeperName(runDir)) !== true) continue;
    if ((await processUid(pid)) !== process.getuid?.()) continue;
    const startTicks = await processStartTicks(pid);
    if (startTicks !== undefined) return { pid, startTicks };
  }
  return undefined;
}

async function spawned(child: ChildProcess): Promise<void> {
  try {
    await once(child, "spawn");
  } catch (cause) {
    throw new OperationError("cannot start the keeper of a console", { cause });
  }
}
