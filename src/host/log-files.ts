import { open } from "node:fs/promises";
import { join } from "node:path";
import type { InstanceAddress } from "../domain/ids.ts";
import type { Logs } from "../ports/logs.ts";
import { isErrno } from "./files.ts";
import { type Roots, instanceLogFolder } from "./roots.ts";

const tailBytes = 256 * 1024;
// Terminal escapes and control bytes a guest prints must not reach the operator's terminal.
// eslint-disable-next-line no-control-regex
const unprintable = /\u001b\[[0-9;?]*[A-Za-z]|[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** Reads what the keepers of consoles write. */
export class HostLogs implements Logs {
  readonly #roots: Roots;

  constructor(roots: Roots) {
    this.#roots = roots;
  }

  console(instance: InstanceAddress, count: number): Promise<string[]> {
    return lastLogLines(join(instanceLogFolder(this.#roots, instance), "console.log"), count);
  }
}

/** The last `count` non-empty lines of a log, oldest first, without control characters; none when there is no such file. Reads at most the last 256 KiB. */
export async function lastLogLines(path: string, count: number): Promise<string[]> {
  let file;
  try {
    file = await open(path, "r");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
  try {
    const { size } = await file.stat();
    const start = Math.max(0, size - tailBytes);
    const buffer = Buffer.alloc(size - start);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, start);
    return printableLines(buffer.subarray(0, bytesRead).toString("utf8")).slice(-count);
  } finally {
    await file.close();
  }
}

/** The non-empty lines of a text that came from a guest, without control characters. */
function printableLines(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.replace(unprintable, ""))
    .filter((line) => line.trim() !== "");
}
