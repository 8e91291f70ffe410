import { spawn } from "node:child_process";
import { constants } from "node:fs";
import { open, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { ConflictError, HostLacksError, OperationError } from "../domain/errors.ts";
import { isErrno } from "./files.ts";

export interface FileLock {
  /** Lets the next one in. Doing it twice is no error. */
  release(): Promise<void>;
}

export interface FileLockOptions {
  /** How long to wait for another holder, in milliseconds; 0 does not wait. */
  readonly waitMs: number;
  readonly signal?: AbortSignal;
  /** What the holder does, for the message that others see; one short phrase. */
  readonly label?: string;
  /** Whose the file is made; this process's without. */
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
}

/** Chosen so that it cannot be mistaken for one of flock(1)'s own codes (sysexits EX_TEMPFAIL). */
const heldExitCode = 75;
const maxReplacedRetries = 16;

/**
 * Takes the exclusive lock on a file, which is made when it is not there and is never removed.
 * The lock is flock(2) on a descriptor of this process: it ends with its holder, however that dies.
 * Node has no flock, so util-linux `flock` takes it on the inherited descriptor, where it stays.
 * The file then names its holder (pid and label), for messages only.
 *
 * @throws ConflictError when another holds it for longer than `waitMs`; OperationError when
 * interrupted; HostLacksError without util-linux.
 */
export async function acquireFileLock(path: string, options: FileLockOptions): Promise<FileLock> {
  const deadlineMs = performance.now() + options.waitMs;
  for (let attempt = 0; attempt < maxReplacedRetries; attempt += 1) {
    const file = await open(
      path,
      constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW,
      0o600,
    );
    let keep = false;
    try {
      if (options.owner !== undefined) await file.chown(options.owner.uid, options.owner.gid);
      const remainingMs = Math.max(0, deadlineMs - performance.now());
      if (!(await lockDescriptor(file.fd, remainingMs, path, options.signal))) {
        throw new ConflictError(`${path} is locked${await describeHolder(file)}`, {
          hint: "try again when the other command has ended",
        });
      }
      // Whoever removed the file while this one waited made room for a second holder of a new file.
      if (!(await isStillAt(file, path))) continue;
      await file.truncate(0);
      await file.write(`${process.pid} ${(options.label ?? "").slice(0, 200)}\n`, 0);
      keep = true;
      return lockOf(file);
    } finally {
      if (!keep) await file.close();
    }
  }
  throw new OperationError(`${path} was replaced again and again while its lock was taken`);
}

function lockOf(file: FileHandle): FileLock {
  let released: Promise<void> | undefined;
  return {
    release(): Promise<void> {
      released ??= file.truncate(0).then(
        () => file.close(),
        () => file.close(),
      );
      return released;
    },
  };
}

/** @returns whether the lock was taken; false when another holds it. */
function lockDescriptor(
  fd: number,
  waitMs: number,
  path: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const wait = waitMs < 1 ? ["-n"] : ["-w", (waitMs / 1000).toFixed(3)];
  const child = spawn("flock", ["-x", "-E", String(heldExitCode), ...wait, "3"], {
    stdio: ["ignore", "ignore", "ignore", fd],
    env: { PATH: "/usr/local/bin:/usr/bin:/bin" },
    detached: true,
  });
  const kill = (): void => void child.kill("SIGKILL");
  // flock keeps its own time; this only guards against a flock that does not.
  const timer = setTimeout(kill, waitMs + 5000);
  signal?.addEventListener("abort", kill, { once: true });
  if (signal?.aborted === true) kill();
  const done = (): void => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", kill);
  };
  child.once("error", (error) => {
    done();
    reject(
      isErrno(error, "ENOENT")
        ? new HostLacksError("flock is not installed", {
            hint: "install util-linux",
            cause: error,
          })
        : new OperationError("cannot start flock", { cause: error }),
    );
  });
  child.once("exit", (code) => {
    done();
    if (signal?.aborted === true) {
      reject(new OperationError(`waiting for the lock ${path} was interrupted`));
    } else if (code === 0 || code === heldExitCode) resolve(code === 0);
    else reject(new OperationError(`flock on ${path} ended with exit code ${code ?? "none"}`));
  });
  return promise;
}

async function isStillAt(file: FileHandle, path: string): Promise<boolean> {
  const mine = await file.stat();
  try {
    const now = await stat(path);
    return now.ino === mine.ino && now.dev === mine.dev;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}

async function describeHolder(file: FileHandle): Promise<string> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(256), 0, 256, 0);
  const [pid, ...label] = buffer.toString("utf8", 0, bytesRead).trim().split(" ");
  if (pid === undefined || pid === "") return "";
  return ` by process ${pid}${label.length === 0 ? "" : ` (${label.join(" ")})`}`;
}
