import { promises, statSync } from "node:fs";
import { join } from "node:path";
import { isErrno } from "./files.ts";
import { type Roots, tenantsFolder } from "./roots.ts";

/** The user that agentd runs as, and the group of which it alone is a member. */
export interface StateOwner {
  readonly uid: number;
  readonly gid: number;
}

/** The folder of the kernel's locks, which says whose the records are. */
export function locksFolder(roots: Roots): string {
  return join(roots.stateDir, "locks");
}

/**
 * Whose this node's records are: of the user who owns the folder of locks, as `mvm add host` left it. The
 * group is that of the folder of tenants. Undefined while all of the state is root's.
 */
export function stateOwner(roots: Roots): StateOwner | undefined {
  try {
    const { uid } = statSync(locksFolder(roots));
    const { gid } = statSync(tenantsFolder(roots));
    return uid === 0 || gid === 0 ? undefined : { uid, gid };
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** Makes a folder that is agentd's as a whole, 0700. */
export async function ensureAgentFolder(roots: Roots, path: string): Promise<void> {
  await promises.mkdir(path, { recursive: true, mode: 0o700 });
  const owner = recordOwner(roots);
  if (owner !== undefined) await promises.lchown(path, owner.uid, owner.gid);
}

/** Whom a new record is given to: nobody, unless root writes it for the user that agentd runs as. */
export function recordOwner(roots: Roots): StateOwner | undefined {
  return process.getuid?.() === 0 ? stateOwner(roots) : undefined;
}
