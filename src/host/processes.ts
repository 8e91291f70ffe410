import { readFile, readdir } from "node:fs/promises";
import { isErrno } from "./files.ts";

/** What the kernel counts CPU time in towards programs, on every architecture Linux has today; see sysconf(3), _SC_CLK_TCK. */
const clockTicksPerSecond = 100;

/** A process by what makes it unique until the next boot: its pid and its start time in clock ticks since boot. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: number;
}

/**
 * The start time of a living process, or undefined when there is none. A zombie counts as gone once its
 * last thread is: until then files and mounts of the process are in use. Source: proc(5).
 */
export async function processStartTicks(pid: number): Promise<number | undefined> {
  const stat = await readProc(`/proc/${pid}/stat`);
  // The command in field 2 may hold spaces and brackets: what follows the last bracket is field 3 on.
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields === undefined || fields[0] === "X") return undefined;
  if (fields[0] === "Z" && (await threadCount(pid)) <= 1) return undefined;
  const startTicks = Number(fields[19]);
  return Number.isSafeInteger(startTicks) ? startTicks : undefined;
}

/** Whether this very process still lives: a pid that was given to another process does not count. */
export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  return (await processStartTicks(identity.pid)) === identity.startTicks;
}

/** The arguments of a process, or undefined when it is gone. */
export async function processArguments(pid: number): Promise<string[] | undefined> {
  const text = await readProc(`/proc/${pid}/cmdline`);
  return text === undefined || text === "" ? undefined : text.replace(/\0$/, "").split("\0");
}

/** The parent of a process, or undefined when it is gone. */
export async function processParent(pid: number): Promise<number | undefined> {
  const parent = /^PPid:\t(\d+)/m.exec((await readProc(`/proc/${pid}/status`)) ?? "")?.[1];
  return parent === undefined ? undefined : Number(parent);
}

/** The real uid of a process, or undefined when it is gone. */
export async function processUid(pid: number): Promise<number | undefined> {
  const uid = /^Uid:\t(\d+)/m.exec((await readProc(`/proc/${pid}/status`)) ?? "")?.[1];
  return uid === undefined ? undefined : Number(uid);
}

/** The pids of all processes. */
export async function listPids(): Promise<number[]> {
  const names = await readdir("/proc");
  return names.filter((name) => /^\d+$/.test(name)).map(Number);
}

/** Sends a signal to this very process. @returns false when it was gone already. */
export async function signalProcess(
  identity: ProcessIdentity,
  signal: NodeJS.Signals,
): Promise<boolean> {
  if (!(await isAlive(identity))) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch (error) {
    if (isErrno(error, "ESRCH")) return false;
    throw error;
  }
}

async function threadCount(pid: number): Promise<number> {
  try {
    return (await readdir(`/proc/${pid}/task`)).length;
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ESRCH")) return 0;
    throw error;
  }
}

async function readProc(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ESRCH")) return undefined;
    throw error;
  }
}

/** What a process took: CPU time of all its threads in seconds, and its memory that is in the host's now, in KiB. Source: proc_pid_stat(5). */
export async function processUse(
  pid: number,
): Promise<{ readonly cpuSeconds: number; readonly residentKib: number } | undefined> {
  const stat = await readProc(`/proc/${pid}/stat`);
  const status = await readProc(`/proc/${pid}/status`);
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields === undefined || status === undefined) return undefined;
  const ticks = Number(fields[11]) + Number(fields[12]);
  const residentKib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0);
  return { cpuSeconds: ticks / clockTicksPerSecond, residentKib };
}
