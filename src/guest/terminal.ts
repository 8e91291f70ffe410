import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join, resolve } from "node:path";
import type { Readable } from "node:stream";
import { promisify } from "node:util";
import { ConflictError, NotFoundError, isSystemError } from "../domain/errors.ts";
import type { TerminalSize } from "../protocol/guest-requests.ts";

/** util-linux script(1): what a guest has that makes a pseudo-terminal, for which Node has no call. */
const scriptProgram = "/usr/bin/script";
const shell = "/bin/sh";
/** The descriptor on which the terminal says its name, before the command begins. */
export const reportDescriptor = 3;
const maxReportBytes = 100;
const resizeTimeoutMs = 5000;

const run = promisify(execFile);

/** A pseudo-terminal and the process that leads the session on it. */
export interface GuestTerminal {
  readonly device: string;
  readonly sessionId: number;
}

/** The environment a command is looked up and run in. */
interface CommandPlace {
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

/**
 * The command line that runs a command on a new pseudo-terminal, and ends as it does.
 * @throws NotFoundError when the guest has no such program, or an image without script(1).
 */
export function onTerminal(
  command: readonly string[],
  size: TerminalSize,
  place: CommandPlace,
): readonly string[] {
  if (!isExecutable(scriptProgram)) {
    throw new NotFoundError(
      `the guest has no ${scriptProgram}, which terminals need: build its image again`,
    );
  }
  const [program = ""] = command;
  if (!isProgram(program, place)) throw new NotFoundError(`the guest has no program ${program}`);
  // script takes a line for a shell and no list of arguments, so they are quoted. The size is set and the
  // terminal named before the command begins: a later size cannot be overtaken by the first one.
  const line = [
    `stty rows ${size.rows} cols ${size.cols}`,
    `echo $$ $(tty) >&${reportDescriptor}`,
    `exec ${reportDescriptor}>&-`,
    `exec ${command.map(shellWord).join(" ")}`,
  ].join("; ");
  return [scriptProgram, "--quiet", "--return", "--echo=always", "--command", line, "/dev/null"];
}

/** What script(1) is told of the shell that reads its line. */
export const terminalEnv: Readonly<Record<string, string>> = { SHELL: shell };

/** A text as one word of a POSIX shell, whatever is in it (XCU 2.2.2: nothing is special in single quotes). */
export function shellWord(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** What the new terminal says of itself; undefined when its command ends without having said it. */
export async function readTerminal(report: Readable): Promise<GuestTerminal | undefined> {
  let text = "";
  try {
    for await (const chunk of report) {
      text += String(chunk);
      if (text.includes("\n") || text.length > maxReportBytes) break;
    }
  } catch (error) {
    // What could not be started closes the pipe without an end.
    if ((error as NodeJS.ErrnoException).code !== "ERR_STREAM_PREMATURE_CLOSE") throw error;
  }
  const [, sessionId, device] = /^(\d+) (\/dev\/pts\/\d+)\n$/.exec(text) ?? [];
  if (sessionId === undefined || device === undefined) return undefined;
  return { device, sessionId: Number(sessionId) };
}

/** Sets the size, of which the kernel tells the programs on it (SIGWINCH). @throws ConflictError when it is gone. */
export async function resizeTerminal(device: string, size: TerminalSize): Promise<void> {
  const words = ["-F", device, "rows", String(size.rows), "cols", String(size.cols)];
  try {
    await run("stty", words, { timeout: resizeTimeoutMs, maxBuffer: 4096 });
  } catch (cause) {
    throw new ConflictError(`${device} takes no new size`, { cause });
  }
}

/** Whether execvp(3) would find it. */
function isProgram(program: string, { cwd, env }: CommandPlace): boolean {
  if (program.includes("/")) return isExecutable(resolve(cwd, program));
  const folders = (env["PATH"] ?? "").split(":");
  return program !== "" && folders.some((folder) => isExecutable(join(folder, program)));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return false;
  }
}
