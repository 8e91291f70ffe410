import { join } from "node:path";
import { readFileIfAny } from "../files.ts";

/**
 * Whether a core of this process would be kept. A limit of 0 bytes keeps the kernel from writing a file,
 * and not from handing the core to a program; one of 1 byte keeps it from both. See core(5).
 */
export async function coresGoToDisk(kernelRoot: string): Promise<boolean> {
  const limits = (await readFileIfAny(join(kernelRoot, "proc/self/limits"))) ?? "";
  const limit = /^Max core file size\s+(\S+)/m.exec(limits)?.[1];
  if (limit === "1") return false;
  const pattern = (await readFileIfAny(join(kernelRoot, "proc/sys/kernel/core_pattern"))) ?? "|";
  return limit !== "0" || pattern.startsWith("|");
}
