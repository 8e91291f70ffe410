import { constants } from "node:fs";
import { chmod, mkdir, open, symlink } from "node:fs/promises";
import { readAll, type ByteSource, type TarEntry } from "./tar-reader.ts";

const chunkBytes = 1024 * 1024;

/** A new folder with mode 0755, whatever the umask is. */
export async function makeFolder(place: string): Promise<void> {
  await mkdir(place);
  await chmod(place, 0o755);
}

/**
 * Makes one member of a tar at a place that nothing has yet: no link is followed, and files get mode 0644
 * or 0755. @throws EEXIST when something is there.
 */
export async function placeEntry(
  source: ByteSource,
  entry: TarEntry,
  place: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (entry.kind === "folder") await makeFolder(place);
  else if (entry.kind === "link") await symlink(entry.target, place);
  else await writeContent(source, entry, place, signal);
}

async function writeContent(
  source: ByteSource,
  entry: { readonly position: number; readonly sizeBytes: number; readonly executable: boolean },
  place: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const file = await open(place, flags, 0o600);
  try {
    for (let done = 0; done < entry.sizeBytes;) {
      signal?.throwIfAborted();
      const length = Math.min(chunkBytes, entry.sizeBytes - done);
      await file.writeFile(await readAll(source, entry.position + done, length));
      done += length;
    }
    await file.chmod(entry.executable ? 0o755 : 0o644);
  } finally {
    await file.close();
  }
}
