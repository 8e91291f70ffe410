import { closeSync, fstatSync, openSync, readSync, renameSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { plainLine } from "../protocol/plain-text.ts";

/** A file beyond this many bytes becomes `<name>.log.1`; one old file is kept. */
const maxLogFileBytes = 1024 * 1024;

/**
 * What one service prints, in `<folder>/<name>.log`. The folder is memory in the guest, so it is
 * bounded: at most twice `maxLogFileBytes`, whatever the service does.
 */
export class ServiceLog {
  readonly path: string;
  /** The last line that was not blank, for messages; at most 300 characters. */
  lastLine = "";
  #fd: number;
  #size: number;
  #partialLine = "";

  constructor(folder: string, name: string) {
    this.path = join(folder, `${name}.log`);
    this.#fd = openSync(this.path, "a", 0o640);
    this.#size = fstatSync(this.#fd).size;
  }

  append(bytes: Buffer): void {
    try {
      if (this.#size + bytes.length > maxLogFileBytes) this.#rotate();
      writeSync(this.#fd, bytes);
      this.#size += bytes.length;
    } catch (error) {
      // A full disk must not end the service, nor the agent: the line is lost.
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
      rmSync(`${this.path}.1`, { force: true });
    }
    this.#noteLastLine(bytes);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #rotate(): void {
    closeSync(this.#fd);
    renameSync(this.path, `${this.path}.1`);
    this.#fd = openSync(this.path, "a", 0o640);
    this.#size = 0;
  }

  #noteLastLine(bytes: Buffer): void {
    const lines = (this.#partialLine + bytes.toString("utf8", -2048)).split("\n");
    this.#partialLine = (lines.at(-1) ?? "").slice(-300);
    const line = lines.findLast((text) => text.trim() !== "");
    if (line !== undefined) this.lastLine = plainLine(line).slice(0, 300);
  }
}

/** The last lines of a log and of its predecessor, oldest first, reading at most `maxBytes` of each. */
export function readLastLines(path: string, lines: number, maxBytes: number): string[] {
  const text = readTail(`${path}.1`, maxBytes) + readTail(path, maxBytes);
  return text.split("\n").filter(Boolean).slice(-lines);
}

function readTail(path: string, maxBytes: number): string {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
  try {
    const { size } = fstatSync(fd);
    const buffer = Buffer.alloc(Math.min(size, maxBytes));
    const length = readSync(fd, buffer, 0, buffer.length, size - buffer.length);
    return buffer.toString("utf8", 0, length);
  } finally {
    closeSync(fd);
  }
}
