import { constants } from "node:fs";
import { type FileHandle, mkdir, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "../files.ts";
import { type Roots, agentFolder, nodeAuditFolder, tenantsFolder } from "../roots.ts";
import { type StateOwner, locksFolder } from "../state-owner.ts";
import { identityPaths } from "./identity.ts";

/** Folders of the state folder that are agentd's as a whole. */
function agentFolders(roots: Roots): string[] {
  return [identityPaths(roots.stateDir).folder, agentFolder(roots), nodeAuditFolder(roots)];
}

const sharedMode = 0o1770;
const permissionBits = 0o7777;

/**
 * Gives the records of this node to the user that agentd runs as, and leaves root what only root may
 * touch: volumes, images, snapshots, logs, keys, and the folders themselves. What was made while all was
 * root's goes on from there. Safe to do again at any time, also when it was cut off, and whatever that user
 * planted meanwhile: nothing is changed by way of a link. @returns how many files and folders it changed.
 */
export async function handOver(roots: Roots, owner: StateOwner): Promise<number> {
  const hand = new Hand(owner);
  await mkdir(roots.stateDir, { recursive: true, mode: 0o755 });
  const tenants = tenantsFolder(roots);
  for (const folder of [tenants, ...agentFolders(roots), locksFolder(roots)]) {
    await mkdir(folder, { recursive: true, mode: 0o700 });
  }
  await hand.share(tenants);
  for (const tenant of await hand.share(tenants)) {
    const folder = join(tenants, tenant);
    await hand.share(folder);
    await hand.give(folder, ["tenant.json", "secrets.json", "audit.log", "audit.head"]);
    for (const pool of await hand.share(join(folder, "pools"))) {
      await handPool(hand, join(folder, "pools", pool));
    }
  }
  for (const folder of agentFolders(roots)) await hand.giveAll(folder);
  // Last: by whose it is, everyone knows whose the records are.
  await hand.giveAll(locksFolder(roots));
  return hand.changed;
}

async function handPool(hand: Hand, folder: string): Promise<void> {
  await hand.share(folder);
  await hand.give(folder, ["pool.json"]);
  await hand.giveAll(join(folder, "artifacts"));
  for (const instance of await hand.share(join(folder, "instances"))) {
    const place = join(folder, "instances", instance);
    await hand.share(place);
    await hand.give(place, ["instance.json"]);
  }
}

/** Changes owners by open descriptors alone, so that what was checked is what is changed. */
class Hand {
  readonly #owner: StateOwner;
  changed = 0;

  constructor(owner: StateOwner) {
    this.#owner = owner;
  }

  /** Makes a folder root's, with room for the group. @returns the names in it; none when it is no folder. */
  async share(path: string): Promise<string[]> {
    return this.#withFolder(path, async (folder) => {
      const { uid, gid, mode } = await folder.stat();
      if (uid === 0 && gid === this.#owner.gid && (mode & permissionBits) === sharedMode) return;
      await folder.chown(0, this.#owner.gid);
      await folder.chmod(sharedMode);
      this.changed += 1;
    });
  }

  /** Gives away files of these names, as far as they are there. */
  async give(folder: string, names: readonly string[]): Promise<void> {
    for (const name of names) await this.#giveFile(join(folder, name));
  }

  /** Gives away a folder with all that is in it. Links are nobody's matter: whose the folder is may remove them. */
  async giveAll(path: string): Promise<void> {
    const names = await this.#withFolder(path, (folder) => this.#giveOpen(folder));
    for (const name of names) {
      await this.#giveFile(join(path, name));
      await this.giveAll(join(path, name));
    }
  }

  async #giveFile(path: string): Promise<void> {
    await withOpen(path, constants.O_NONBLOCK, async (file) => {
      const found = await file.stat();
      // Another name of the same file may be one that is none of mvm's.
      if (found.isFile() && found.nlink === 1) await this.#giveOpen(file);
    });
  }

  async #giveOpen(file: FileHandle): Promise<void> {
    const { uid, gid } = await file.stat();
    if (uid === this.#owner.uid && gid === this.#owner.gid) return;
    await file.chown(this.#owner.uid, this.#owner.gid);
    this.changed += 1;
  }

  async #withFolder(path: string, work: (folder: FileHandle) => Promise<void>): Promise<string[]> {
    let names: string[] = [];
    await withOpen(path, constants.O_DIRECTORY, async (folder) => {
      await work(folder);
      // By its descriptor: the path may be another's by now.
      names = await readdir(`/proc/self/fd/${folder.fd}`);
    });
    return names;
  }
}

/** Opens what is at a path itself; nothing is done when that is nothing, a link, or of another kind. */
async function withOpen(
  path: string,
  flags: number,
  work: (file: FileHandle) => Promise<void>,
): Promise<void> {
  let file;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | flags);
  } catch (error) {
    if (["ENOENT", "ELOOP", "ENOTDIR", "ENXIO"].some((code) => isErrno(error, code))) return;
    throw error;
  }
  try {
    await work(file);
  } finally {
    await file.close();
  }
}
