import { lstat, realpath } from "node:fs/promises";
import { dirname, join, normalize } from "node:path";
import { NotTrustedError } from "../../domain/errors.ts";
import { isErrno } from "../files.ts";
import type { Roots } from "../roots.ts";

/** Where root puts the flakes of this host that agentd may name. */
function flakesFolder(roots: Roots): string {
  return join(roots.configDir, "flakes");
}

const othersMayWrite = 0o022;

/**
 * hostd reads as root, so that a folder of the host that agentd names could be any: it reads those of one
 * place only, and only while every folder down to it is root's alone to change.
 * @throws NotTrustedError for another folder.
 */
export async function requireFlake(roots: Roots, flakeRef: string): Promise<void> {
  if (flakeRef.startsWith("builtin:") || flakeRef.startsWith("github:")) return;
  const named = flakeRef.startsWith("path:") ? flakeRef.slice("path:".length) : flakeRef;
  const allowed = flakesFolder(roots);
  const refused = new NotTrustedError(`hostd does not read the flake ${flakeRef} for agentd`, {
    hint: `use builtin:<name> or github:<owner>/<repo>, or let root put it below ${allowed}`,
  });
  if (normalize(named) !== named || !named.startsWith(`${allowed}/`)) throw refused;
  try {
    if ((await realpath(named)) !== join(await realpath(allowed), named.slice(allowed.length))) {
      throw refused;
    }
    for (let folder = named; folder !== dirname(allowed); folder = dirname(folder)) {
      const { uid, mode } = await lstat(folder);
      if (uid !== 0 || (mode & othersMayWrite) !== 0) throw refused;
    }
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) throw refused;
    throw error;
  }
}
