// Its promises by this name, not as `node:fs/promises`: so a bundle loads them when they are used, and
// the reading of records uses none.
import { type Dirent, type Stats, constants, createReadStream, promises } from "node:fs";
import { basename, dirname, join } from "node:path";

/** Whether an error is the named error of the operating system, such as `ENOENT`. */
export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === code;
}

/**
 * Replaces a file whole or not at all: temporary file beside it, fsync, rename, fsync of the folder.
 * A temporary file left by a crash is `.<name>.<random>.tmp`.
 *
 * @param owner whose it is; by default this process's, or where root writes in a folder of another user,
 * that one's: what agentd keeps stays agentd's.
 */
export async function writeFileAtomic(
  path: string,
  content: string | Uint8Array,
  mode: number,
  owner?: { readonly uid: number; readonly gid: number },
): Promise<void> {
  const folder = dirname(path);
  // The global, since `node:crypto` takes longer to load than most commands take to answer.
  const random = Buffer.from(globalThis.crypto.getRandomValues(new Uint8Array(6)));
  const temporary = join(folder, `.${basename(path)}.${random.toString("hex")}.tmp`);
  try {
    const file = await promises.open(temporary, "wx", mode);
    try {
      await file.writeFile(content);
      const given = owner ?? (await otherOwnerOf(folder));
      if (given !== undefined) await file.chown(given.uid, given.gid);
      await file.sync();
    } finally {
      await file.close();
    }
    await promises.rename(temporary, path);
  } catch (error) {
    await promises.rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

async function otherOwnerOf(
  folder: string,
): Promise<{ readonly uid: number; readonly gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const { uid, gid } = await promises.stat(folder);
  return uid === 0 ? undefined : { uid, gid };
}

const temporaryName = /^\.[^/]+\.[0-9a-f]{12}\.tmp$/;

/**
 * Removes the temporary files of `writeFileAtomic` below a folder, and folders that held nothing else. The
 * caller knows that nobody writes there. Another user's folders hold none of this one's, and stay.
 */
export async function removeHalfWritten(folder: string): Promise<void> {
  let removed = false;
  for (const entry of await entriesIfOurs(folder)) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await removeHalfWritten(path);
    else if (temporaryName.test(entry.name)) {
      await promises.rm(path, { force: true });
      removed = true;
    }
  }
  if (!removed) return;
  try {
    await removeFolderIfEmpty(folder);
  } catch (error) {
    if (!isErrno(error, "EPERM") && !isErrno(error, "EACCES")) throw error;
  }
}

async function entriesIfOurs(folder: string): Promise<Dirent[]> {
  try {
    return await promises.readdir(folder, { withFileTypes: true });
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "EACCES")) return [];
    throw error;
  }
}

/** Removes what writers of this one file left when they died. The caller knows that nobody writes it. */
export async function removeHalfWrittenOf(path: string): Promise<void> {
  const begin = `.${basename(path)}.`;
  for (const name of await listFolderIfAny(dirname(path))) {
    if (!name.startsWith(begin) || !temporaryName.test(name)) continue;
    await promises.rm(join(dirname(path), name), { force: true });
  }
}

/** Makes the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await promises.open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** The text of a file, or undefined when there is none. */
export async function readFileIfAny(path: string): Promise<string | undefined> {
  try {
    return await promises.readFile(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** The text of a file of this process's own user, or undefined: a link, or what another user put there, is none. */
export async function readOwnFileIfAny(path: string): Promise<string | undefined> {
  let file;
  try {
    file = await promises.open(
      path,
      constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
    );
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ELOOP")) return undefined;
    throw error;
  }
  try {
    const found = await file.stat();
    if (!found.isFile() || found.uid !== process.getuid?.()) return undefined;
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

/** What a path leads to, or undefined when there is nothing. */
export async function statIfAny(path: string): Promise<Stats | undefined> {
  try {
    return await promises.stat(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** What is at a path itself, be it a link, or undefined when there is nothing. */
export async function lstatIfAny(path: string): Promise<Stats | undefined> {
  try {
    return await promises.lstat(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** The names in a folder, sorted; none when there is no such folder. */
export async function listFolderIfAny(path: string): Promise<string[]> {
  try {
    return (await promises.readdir(path)).toSorted();
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

/** Removes a folder unless something is in it. That it is not there is no error. */
export async function removeFolderIfEmpty(path: string): Promise<void> {
  try {
    await promises.rmdir(path);
  } catch (error) {
    if (!isErrno(error, "ENOENT") && !isErrno(error, "ENOTEMPTY")) throw error;
  }
}

/** SHA-256 of a file, in hex. */
export async function sha256OfFile(path: string, signal?: AbortSignal): Promise<string> {
  const { createHash } = await import("node:crypto");
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, signal })) {
    hash.update(chunk as Buffer);
  }
  return hash.digest("hex");
}
