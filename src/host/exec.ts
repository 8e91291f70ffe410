import { spawn } from "node:child_process";
import { type FileHandle, open } from "node:fs/promises";
import { HostLacksError, OperationError } from "../domain/errors.ts";
import type { Exec, RunOptions, RunResult } from "../ports/exec.ts";

const defaultMaxOutputBytes = 16 * 1024 * 1024;

/** The environment every host program gets unless the caller gives another: nothing of the user's leaks in. */
export const plainEnvironment: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  LC_ALL: "C",
};

/** Runs programs of this machine. */
export class HostExec implements Exec {
  async run(program: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
    const result = await this.tryRun(program, args, options);
    if (result.exitCode !== 0) {
      throw new OperationError(
        `${program} ${args[0] ?? ""} ended with exit code ${result.exitCode}: ${lastLines(result)}`,
      );
    }
    return result;
  }

  async tryRun(program: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
    if (options.input === undefined) return this.#spawn(program, args, options, "ignore");
    const input = await fileWith(options.input);
    try {
      return await this.#spawn(program, args, options, input.fd);
    } finally {
      await input.close();
    }
  }

  #spawn(
    program: string,
    args: readonly string[],
    options: RunOptions,
    stdin: "ignore" | number,
  ): Promise<RunResult> {
    const maxOutputBytes = options.maxOutputBytes ?? defaultMaxOutputBytes;
    const { promise, resolve, reject } = Promise.withResolvers<RunResult>();
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: options.env ?? plainEnvironment,
      stdio: [stdin, "pipe", "pipe"],
      // A group of its own, so that Ctrl-C reaches mvm alone and mvm decides what ends.
      detached: true,
    });
    let failure: Error | undefined;
    const end = (error: Error): void => {
      failure ??= error;
      killGroup(child.pid);
    };
    const timer = setTimeout(
      () => end(new OperationError(`${program} did not end within ${options.timeoutMs} ms`)),
      options.timeoutMs,
    );
    const onAbort = (): void => end(new OperationError(`${program} was interrupted`));
    options.signal?.addEventListener("abort", onAbort, { once: true });
    if (options.signal?.aborted === true) onAbort();

    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let size = 0;
    let rest = "";
    const collect = (chunks: Buffer[]) => (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxOutputBytes) {
        end(new OperationError(`${program} printed more than ${maxOutputBytes} bytes`));
        return;
      }
      chunks.push(chunk);
      if (options.onLine === undefined) return;
      const lines = (rest + chunk.toString("utf8")).split("\n");
      rest = (lines.pop() ?? "").slice(-4096);
      lines.forEach(options.onLine);
    };
    child.stdout?.on("data", collect(stdout));
    child.stderr?.on("data", collect(stderr));
    child.once("error", (error: NodeJS.ErrnoException) => {
      failure ??=
        error.code === "ENOENT"
          ? new HostLacksError(`${program} is not installed`, {
              hint: "run `mvm add host`",
              cause: error,
            })
          : new OperationError(`cannot start ${program}`, { cause: error });
      finish(-1);
    });
    child.once("close", (code, signal) => finish(code ?? (signal === null ? -1 : 128)));

    function finish(exitCode: number): void {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", onAbort);
      if (failure !== undefined) reject(failure);
      else {
        resolve({
          exitCode,
          stdout: Buffer.concat(stdout).toString("utf8"),
          stderr: Buffer.concat(stderr).toString("utf8"),
        });
      }
    }
    return promise;
  }
}

/** `O_TMPFILE | O_RDWR` of open(2) on x86-64: a file without a name, which ends with its last user. */
const unnamedFile = 0o20200002;

/**
 * Input as a file in memory. Node's own pipes are sockets, and `nft` 1.0.9 reads its batch from files and
 * pipes alone.
 */
async function fileWith(input: string | Uint8Array): Promise<FileHandle> {
  const file = await open("/dev/shm", unnamedFile, 0o600);
  try {
    const bytes = Buffer.from(input);
    // At a position, so that the program that shares the file's offset begins at 0.
    for (let done = 0; done < bytes.length;) {
      done += (await file.write(bytes, done, bytes.length - done, done)).bytesWritten;
    }
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

function lastLines(result: RunResult): string {
  const text = result.stderr.trim() === "" ? result.stdout : result.stderr;
  const lines = text.trim().split("\n").slice(-5).join(" | ");
  return lines === "" ? "it printed nothing" : lines.slice(-1000);
}
