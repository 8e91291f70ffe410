import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";

/** Files below a folder that hold a text, images and prepared payloads included. */
export async function filesWith(folder: string, text: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const found: string[] = [];
  for (const entry of entries.filter((candidate) => candidate.isFile())) {
    const path = join(entry.parentPath, entry.name);
    if ((await readFile(path)).includes(text)) found.push(path);
  }
  return found;
}

/** A process, other than this one, whose arguments or environment hold a text. */
export async function processWith(text: string): Promise<string | undefined> {
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    if (Number(pid) === process.pid) continue;
    for (const file of ["cmdline", "environ"]) {
      try {
        if ((await readFile(`/proc/${pid}/${file}`)).includes(text)) return `${pid} ${file}`;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        // Gone meanwhile, a kernel thread, or the machine's first process under a keeper of its own.
        if (!["ENOENT", "ESRCH", "EINVAL", "EACCES"].includes(code ?? "")) throw error;
      }
    }
  }
  return undefined;
}
