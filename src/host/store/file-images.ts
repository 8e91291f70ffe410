import { lchown, mkdir, readdir, readlink, rename, rm, stat, symlink } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { NotFoundError } from "../../domain/errors.ts";
import type { PoolAddress } from "../../domain/ids.ts";
import { type Revision, parseRevision } from "../../domain/revision.ts";
import type { ImageFiles, Images } from "../../ports/images.ts";
import { isErrno, listFolderIfAny, readFileIfAny } from "../files.ts";
import { type Roots, imagesFolder, poolFolder } from "../roots.ts";
import { recordOwner } from "../state-owner.ts";

const hashName = /^[0-9a-f]{64}$/;

/** The images that pools refer to: finds them in the content store, keeps the links into it, and removes what nothing refers to. */
export class FileImages implements Images {
  readonly #roots: Roots;

  constructor(roots: Roots) {
    this.#roots = roots;
  }

  async files(hash: string): Promise<ImageFiles> {
    const folder = join(imagesFolder(this.#roots), hash);
    const files = {
      kernel: join(folder, "kernel"),
      initrd: join(folder, "initrd"),
      rootfs: join(folder, "rootfs.ext4"),
    };
    for (const path of Object.values(files)) {
      try {
        await stat(path);
      } catch (error) {
        if (!isErrno(error, "ENOENT")) throw error;
        throw new NotFoundError(`image ${hash.slice(0, 12)} is not in the store`, {
          hint: "build it again: mvm pool build <tenant>/<pool>",
          cause: error,
        });
      }
    }
    return files;
  }

  async describe(hash: string): Promise<Revision | undefined> {
    const text = await readFileIfAny(join(imagesFolder(this.#roots), hash, "revision.json"));
    const revision = text === undefined ? undefined : parseRevision(text);
    return revision?.hash === hash ? revision : undefined;
  }

  async link(pool: PoolAddress, revisions: readonly string[]): Promise<void> {
    const artifacts = join(poolFolder(this.#roots, pool), "artifacts");
    const links = join(artifacts, "revisions");
    await mkdir(links, { recursive: true, mode: 0o700 });
    const owner = recordOwner(this.#roots);
    if (owner !== undefined) {
      for (const folder of [artifacts, links]) await lchown(folder, owner.uid, owner.gid);
    }
    for (const hash of revisions) {
      const target = relative(links, join(imagesFolder(this.#roots), hash));
      await replaceLink(join(links, hash), target);
    }
    const [current] = revisions;
    if (current !== undefined) {
      await replaceLink(join(artifacts, "current"), join("revisions", current));
    }
    for (const name of await readdir(links)) {
      if (!revisions.includes(name)) await rm(join(links, name), { force: true });
    }
  }

  async collect(kept: ReadonlySet<string>): Promise<string[]> {
    const removed = (await this.#hashes()).filter((hash) => !kept.has(hash));
    for (const hash of removed) {
      await rm(join(imagesFolder(this.#roots), hash), { recursive: true, force: true });
    }
    await this.#forgetKeys(kept);
    return removed;
  }

  /** Removes the names by which builds of images that are gone would have been found again. */
  async #forgetKeys(kept: ReadonlySet<string>): Promise<void> {
    const folder = join(imagesFolder(this.#roots), "by-key");
    for (const key of await listFolderIfAny(folder)) {
      if (!hashName.test(key)) continue;
      const hash = basename(await readlink(join(folder, key)));
      if (!kept.has(hash)) await rm(join(folder, key), { force: true });
    }
  }

  async #hashes(): Promise<string[]> {
    try {
      const names = await readdir(imagesFolder(this.#roots));
      return names.filter((name) => hashName.test(name));
    } catch (error) {
      if (isErrno(error, "ENOENT")) return [];
      throw error;
    }
  }
}

/** Makes or switches a symbolic link in one step, so that a reader sees the old target or the new one. */
async function replaceLink(path: string, target: string): Promise<void> {
  const temporary = `${path}.tmp`;
  await rm(temporary, { force: true });
  await symlink(target, temporary);
  await rename(temporary, path);
}
