import { open } from "node:fs/promises";
import { OperationError } from "../domain/errors.ts";
import { isErrno } from "../host/files.ts";

const maxReadBytes = 256 * 1024;
/** A build that prints faster than this is read must not keep its watcher from looking at the clock. */
const maxReadsPerPoll = 64;
const maxLineCharacters = 300;
const linesKept = 200;

/** Follows a builder's console, which prints whatever the build prints: lines are bounded and cleaned. */
export class BuilderConsole {
  readonly #path: string;
  readonly #onProgress: (line: string) => void;
  readonly #lines: string[] = [];
  #position = 0;
  #rest = "";
  #exitCode: number | undefined;
  #storeBroken = false;

  constructor(path: string, onProgress: (line: string) => void) {
    this.#path = path;
    this.#onProgress = onProgress;
  }

  /** What the builder said its build ended with; undefined while it has not. */
  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  /** The last lines, oldest first. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  /** How much was printed, as far as it was read. */
  get bytesRead(): number {
    return this.#position;
  }

  /** Whether the builder's kernel had to end a program for want of memory. */
  get outOfMemory(): boolean {
    return this.#lines.some((line) => /Out of memory: Killed process/.test(line));
  }

  /** Whether the builder found its Nix store broken, at its start or after a failure. */
  get storeBroken(): boolean {
    return this.#storeBroken;
  }

  /** The derivation that failed, by its name, when Nix named one. */
  get failedDerivation(): string | undefined {
    for (const line of this.#lines.toReversed()) {
      const name =
        /builder for '\/nix\/store\/[0-9a-z]{32}-([\w+.?=-]{1,211}?)(?:\.drv)?' failed/.exec(line);
      if (name?.[1] !== undefined) return name[1];
    }
    return undefined;
  }

  /** The first line of the last error that Nix printed. */
  get error(): string | undefined {
    return this.#lines.findLast((line) => line.startsWith("error: "))?.slice("error: ".length);
  }

  /** Reads what was printed since the last call. @throws OperationError when so much was printed that the log lost its beginning. */
  async poll(): Promise<void> {
    let chunks = 0;
    for (let more = true; more && chunks < maxReadsPerPoll; chunks += 1) {
      const chunk = await this.#read();
      more = chunk.length === maxReadBytes;
      const lines = (this.#rest + chunk.toString("latin1")).split("\n");
      this.#rest = (lines.pop() ?? "").slice(-4096);
      for (const line of lines) this.#take(clean(line));
    }
  }

  #take(line: string): void {
    if (line === "") return;
    this.#lines.push(line);
    if (this.#lines.length > linesKept) this.#lines.shift();
    if (line === "mvm-builder: the Nix store is broken") this.#storeBroken = true;
    const said = /^mvm-builder: (?:end (\d{1,3})|(.+))$/.exec(line);
    if (said?.[1] !== undefined) this.#exitCode ??= Number(said[1]);
    else if (said?.[2] !== undefined) this.#onProgress(said[2]);
    // With -L, Nix begins each line of a build with the name of its derivation.
    else if (/^(?:[\w+.-]{1,60}> |building '|error: )/.test(line)) this.#onProgress(line);
  }

  async #read(): Promise<Buffer> {
    let file: Awaited<ReturnType<typeof open>>;
    try {
      file = await open(this.#path, "r");
    } catch (error) {
      if (isErrno(error, "ENOENT")) return Buffer.alloc(0);
      throw error;
    }
    try {
      if ((await file.stat()).size < this.#position) {
        throw new OperationError("the build printed more than its console keeps");
      }
      const buffer = Buffer.alloc(maxReadBytes);
      const { bytesRead } = await file.read(buffer, 0, maxReadBytes, this.#position);
      this.#position += bytesRead;
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  }
}

/** One line without colours, cursor movements and other control characters. */
function clean(line: string): string {
  return (
    line
      // eslint-disable-next-line no-control-regex -- escape sequences are what is removed
      .replaceAll(/\u001b\[[0-9;?]*[A-Za-z]/g, "")
      // eslint-disable-next-line no-control-regex -- control characters are what is removed
      .replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, "")
      .slice(0, maxLineCharacters)
      .trimEnd()
  );
}
