import { mkdir, open, rename, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import type { TenantId } from "../domain/ids.ts";
import { isErrno, listFolderIfAny, statIfAny } from "../host/files.ts";
import type { Exec } from "../ports/exec.ts";
import { makeScratchDisk } from "./ext4.ts";

/** A store disk while one build has it. */
export interface StoreDisk {
  readonly path: string;
  /** Gives it back for the tenant's next build, if it is whole and not too large; otherwise it goes with the build's folder. */
  keep(): Promise<void>;
}

export interface StoreDiskOptions {
  readonly stateDir: string;
  readonly exec: Exec;
  /** Of each disk, as its guest sees it. Default 16 GiB. */
  readonly sizeBytes?: number;
  /** What a disk may take on the host to be kept. Default 8 GiB. */
  readonly maxAllocatedBytes?: number;
}

const defaultSizeBytes = 16 * 1024 ** 3;
const defaultMaxAllocatedBytes = 8 * 1024 ** 3;
/** On a node; the one that was not used for longest goes first. */
const maxDisks = 8;
const name = /^([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\.img$/;

/** Source: Documentation/filesystems/ext4 of Linux, superblock: s_magic and s_state, of which 1 is "cleanly unmounted". */
const stateOffset = 1024 + 0x38;
const cleanState = Buffer.from([0x53, 0xef, 0x01, 0x00]);

/**
 * Nix stores that builders leave behind, `nix-stores/<tenant>.img`: at most one a tenant, and no tenant's
 * builder ever gets another's, since nothing in a store proves that it is what its name says (docs/adr/0012). A
 * build takes the disk away by renaming it into its own folder, so that two never have it, and what a
 * dead build had goes with its folder.
 */
export class StoreDisks {
  readonly #folder: string;
  readonly #options: StoreDiskOptions;

  constructor(options: StoreDiskOptions) {
    this.#folder = join(options.stateDir, "nix-stores");
    this.#options = options;
  }

  /** The tenant's disk, or an empty one where there is none that can be used; in `buildFolder` from now on. */
  async take(tenant: TenantId, buildFolder: string, signal?: AbortSignal): Promise<StoreDisk> {
    const path = join(buildFolder, "store.img");
    const place = join(this.#folder, `${tenant}.img`);
    const sizeBytes = this.#options.sizeBytes ?? defaultSizeBytes;
    if (!(await moveIfAny(place, path)) || !(await isWhole(path, sizeBytes))) {
      await rm(path, { force: true });
      await makeScratchDisk(this.#options.exec, path, sizeBytes, signal);
    }
    return { path, keep: () => this.#keep(path, place) };
  }

  /** Removes the disks of tenants that are not in `tenants`. */
  async retain(tenants: ReadonlySet<TenantId>): Promise<void> {
    const known: ReadonlySet<string> = tenants;
    for (const file of await listFolderIfAny(this.#folder)) {
      const tenant = name.exec(file)?.[1];
      if (tenant === undefined || !known.has(tenant)) await rm(join(this.#folder, file));
    }
  }

  async #keep(path: string, place: string): Promise<void> {
    const maxBytes = this.#options.maxAllocatedBytes ?? defaultMaxAllocatedBytes;
    const { blocks } = await stat(path);
    if (blocks * 512 > maxBytes) return;
    if (!(await isWhole(path, this.#options.sizeBytes ?? defaultSizeBytes))) return;
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const now = new Date();
    await utimes(path, now, now);
    await rename(path, place);
    await this.#forgetOldest();
  }

  async #forgetOldest(): Promise<void> {
    const disks: { readonly path: string; readonly usedMs: number }[] = [];
    for (const file of await listFolderIfAny(this.#folder)) {
      const path = join(this.#folder, file);
      const found = await statIfAny(path);
      // Nothing is there when a build took it.
      if (found !== undefined) disks.push({ path, usedMs: found.mtimeMs });
    }
    const oldestFirst = disks.toSorted((left, right) => left.usedMs - right.usedMs);
    for (const { path } of oldestFirst.slice(0, Math.max(0, disks.length - maxDisks))) {
      await rm(path, { force: true });
    }
  }
}

async function moveIfAny(source: string, target: string): Promise<boolean> {
  try {
    await rename(source, target);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}

/** Whether its guest let go of it in good order, and it is of the size that guests are given. */
async function isWhole(path: string, sizeBytes: number): Promise<boolean> {
  const file = await open(path, "r");
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, stateOffset);
    return bytesRead === 4 && buffer.equals(cleanState) && (await file.stat()).size === sizeBytes;
  } finally {
    await file.close();
  }
}
