import { createHash } from "node:crypto";
import {
  copyFile,
  link,
  mkdir,
  open,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { OperationError } from "../domain/errors.ts";
import { parseRevision, type Revision, type RevisionFile } from "../domain/revision.ts";
import {
  isErrno,
  statIfAny,
  listFolderIfAny,
  readFileIfAny,
  sha256OfFile,
  syncFolder,
} from "../host/files.ts";

type FileName = "kernel" | "initrd" | "rootfs.ext4";
const fileNames: readonly FileName[] = ["kernel", "initrd", "rootfs.ext4"];
const hashPattern = /^[0-9a-f]{64}$/;
const unfinishedPrefix = ".new-";

/** The images of this node by content: `images/<hash>/`, and `images/by-key/<key>` for what built them. */
export class ImageStore {
  readonly #root: string;

  constructor(stateDir: string) {
    this.#root = join(stateDir, "images");
  }

  /** The revision that a build key gave before, when it is still there and whole. */
  async findByKey(key: string): Promise<Revision | undefined> {
    let target: string;
    try {
      target = await readlink(join(this.#root, "by-key", key));
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw error;
    }
    const hash = target.replace(/^\.\.\//, "");
    return hashPattern.test(hash) ? this.read(hash) : undefined;
  }

  /** A revision by its hash; undefined when it, or one of its files, is missing or has another size. */
  async read(hash: string): Promise<Revision | undefined> {
    const folder = join(this.#root, hash);
    const text = await readFileIfAny(join(folder, "revision.json"));
    const revision = text === undefined ? undefined : parseRevision(text);
    if (revision === undefined || revision.hash !== hash) return undefined;
    const { kernel, initrd, rootfs } = revision;
    const expected: readonly [FileName, RevisionFile][] = [
      ["kernel", kernel],
      ["initrd", initrd],
      ["rootfs.ext4", rootfs],
    ];
    for (const [name, file] of expected) {
      if ((await statIfAny(join(folder, name)))?.size !== file.sizeBytes) return undefined;
    }
    return revision;
  }

  /** An empty folder to make `kernel`, `initrd` and `rootfs.ext4` in. */
  async begin(buildId: string): Promise<string> {
    const folder = this.#unfinishedFolder(buildId);
    await mkdir(join(this.#root, "by-key"), { recursive: true, mode: 0o755 });
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { mode: 0o755 });
    return folder;
  }

  /** Takes a folder from `begin` into the store, durably, under the hash of its content. */
  async commit(
    folder: string,
    key: string,
    about: Omit<Revision, "schema_version" | "hash" | "kernel" | "initrd" | "rootfs">,
  ): Promise<Revision> {
    const files = await Promise.all(fileNames.map((name) => describeFile(join(folder, name))));
    const [kernel, initrd, rootfs] = files;
    if (kernel === undefined || initrd === undefined || rootfs === undefined) {
      throw new OperationError("an image needs a kernel, an initrd and a root file system");
    }
    const hash = revisionHash(kernel, initrd, rootfs);
    const revision: Revision = { schema_version: 2, hash, kernel, initrd, rootfs, ...about };
    await writeFile(join(folder, "revision.json"), `${JSON.stringify(revision, null, 2)}\n`);
    for (const name of [...fileNames, "revision.json"]) await syncFile(join(folder, name));
    await syncFolder(folder);
    const kept = await this.#place(folder, revision);
    await this.#linkKey(key, hash);
    return kept;
  }

  /** The ids of all builds that have a folder from `begin` here. */
  async unfinished(): Promise<string[]> {
    const names = await listFolderIfAny(this.#root);
    return names
      .filter((name) => name.startsWith(unfinishedPrefix))
      .map((name) => name.slice(unfinishedPrefix.length));
  }

  /** Removes the folder of a build from `begin`; that there is none is no error. */
  async abandon(buildId: string): Promise<void> {
    await rm(this.#unfinishedFolder(buildId), { recursive: true, force: true });
  }

  #unfinishedFolder(buildId: string): string {
    return join(this.#root, `${unfinishedPrefix}${buildId}`);
  }

  async #place(folder: string, revision: Revision): Promise<Revision> {
    const place = join(this.#root, revision.hash);
    const existing = await this.read(revision.hash);
    if (existing !== undefined) {
      await rm(folder, { recursive: true });
      return existing;
    }
    // What is there and not whole is of no use to anybody.
    await rm(place, { recursive: true, force: true });
    await rename(folder, place);
    await syncFolder(this.#root);
    return revision;
  }

  async #linkKey(key: string, hash: string): Promise<void> {
    const folder = join(this.#root, "by-key");
    const temporary = join(folder, `.${key}.${hash.slice(0, 12)}.tmp`);
    await rm(temporary, { force: true });
    await symlink(`../${hash}`, temporary);
    await rename(temporary, join(folder, key));
    await syncFolder(folder);
  }
}

/** The hash of a revision covers its three files and nothing else. */
function revisionHash(kernel: RevisionFile, initrd: RevisionFile, rootfs: RevisionFile): string {
  const text = `kernel ${kernel.sha256}\ninitrd ${initrd.sha256}\nrootfs ${rootfs.sha256}\n`;
  return createHash("sha256").update(text).digest("hex");
}

/** Gives a file a second name, or copies it where that cannot be. */
export async function linkOrCopy(source: string, target: string): Promise<void> {
  try {
    await link(source, target);
  } catch (error) {
    if (!isErrno(error, "EXDEV") && !isErrno(error, "EPERM")) throw error;
    await copyFile(source, target);
  }
}

async function describeFile(path: string): Promise<RevisionFile> {
  return { sha256: await sha256OfFile(path), sizeBytes: (await stat(path)).size };
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
