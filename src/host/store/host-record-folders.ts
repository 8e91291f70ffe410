// Its promises by this name: see files.ts.
import { promises } from "node:fs";
import { join } from "node:path";
import { NotTrustedError } from "../../domain/errors.ts";
import type { RecordAddress, RecordFolders } from "../../ports/record-folders.ts";
import { isErrno, removeFolderIfEmpty } from "../files.ts";
import { type Roots, instanceFolder, poolFolder, tenantFolder, tenantsFolder } from "../roots.ts";
import { stateOwner } from "../state-owner.ts";

const permissionBits = 0o7777;
/** Its owner's alone. */
const closedMode = 0o700;
/**
 * Agentd's group may add to it, and with the sticky bit nobody but an entry's owner, or root, can rename or
 * remove that: what root put there stays where it is. See chmod(1), "restricted deletion flag".
 */
const sharedMode = 0o1770;

/**
 * Makes the folders of records from the top down, each checked before the next: one that belongs to this
 * process in one that belongs to it cannot become a link to elsewhere in between.
 */
export class HostRecordFolders implements RecordFolders {
  readonly #roots: Roots;

  constructor(roots: Roots) {
    this.#roots = roots;
  }

  async make(of: RecordAddress): Promise<void> {
    await promises.mkdir(this.#roots.stateDir, { recursive: true, mode: 0o755 });
    const gid = stateOwner(this.#roots)?.gid;
    for (const folder of this.#down(of)) await ensureFolder(folder, gid);
  }

  async remove(of: RecordAddress): Promise<void> {
    await this.check(of);
    if ("instance" in of) {
      await removeFolderIfEmpty(instanceFolder(this.#roots, of));
      return;
    }
    if ("pool" in of) {
      const folder = poolFolder(this.#roots, of);
      await removeFolderIfEmpty(join(folder, "instances"));
      await removeFolderIfEmpty(folder);
      return;
    }
    const folder = tenantFolder(this.#roots, of.tenant);
    await removeFolderIfEmpty(join(folder, "pools"));
    await removeFolderIfEmpty(folder);
  }

  /** @returns whether all are there. @throws NotTrustedError when something else is in the place of one. */
  async check(of: RecordAddress): Promise<boolean> {
    for (const folder of this.#down(of)) if (!(await isOwnFolder(folder))) return false;
    return true;
  }

  #down(of: RecordAddress): string[] {
    const folders = [tenantsFolder(this.#roots), tenantFolder(this.#roots, of.tenant)];
    if (!("pool" in of)) return folders;
    folders.push(join(tenantFolder(this.#roots, of.tenant), "pools"), poolFolder(this.#roots, of));
    if (!("instance" in of)) return folders;
    folders.push(join(poolFolder(this.#roots, of), "instances"), instanceFolder(this.#roots, of));
    return folders;
  }
}

async function ensureFolder(path: string, gid: number | undefined): Promise<void> {
  try {
    await promises.mkdir(path, { mode: closedMode });
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
  }
  await isOwnFolder(path);
  if (gid === undefined) return;
  const found = await promises.lstat(path);
  if (found.gid === gid && (found.mode & permissionBits) === sharedMode) return;
  await promises.chown(path, found.uid, gid);
  await promises.chmod(path, sharedMode);
}

/** Makes a folder that nobody but this process's user enters. @throws NotTrustedError when something else is in its place. */
export async function ensureOwnFolder(path: string): Promise<void> {
  await ensureFolder(path, undefined);
}

/** False when there is nothing. @throws NotTrustedError when it is no folder, or another's. */
export async function isOwnFolder(path: string): Promise<boolean> {
  try {
    const found = await promises.lstat(path);
    const uid = process.getuid?.();
    if (found.isDirectory() && found.uid === uid) return true;
    const what = found.isDirectory() ? `a folder of user ${found.uid}` : "no folder";
    throw new NotTrustedError(`${path} is ${what}: nothing is done below it`, {
      hint: "move it away, or give it back to root with: mvm add host",
    });
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}
