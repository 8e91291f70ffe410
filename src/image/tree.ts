import { chmod, lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { UsageError } from "../domain/errors.ts";

export interface TreeNode {
  readonly path: string;
  /** Below the root; empty for the root itself. */
  readonly name: string;
  readonly kind: "folder" | "file" | "link";
  readonly sizeBytes: number;
  /** Whether its owner may run it: the one bit of a mode that Nix knows. */
  readonly executable: boolean;
}

/**
 * All of a tree, folders before what is in them, in byte order of names; links are not followed.
 * `leaveOut` is asked for each name below the root.
 */
export async function* walk(
  root: string,
  name = "",
  leaveOut?: (name: string) => boolean,
): AsyncGenerator<TreeNode, void, undefined> {
  const path = join(root, name);
  const stat = await lstat(path);
  const kind = stat.isDirectory() ? "folder" : stat.isSymbolicLink() ? "link" : "file";
  if (kind === "file" && !stat.isFile()) {
    throw new UsageError(`${path} is neither a file, a folder nor a symbolic link`);
  }
  yield { path, name, kind, sizeBytes: stat.size, executable: (stat.mode & 0o100) !== 0 };
  if (kind !== "folder") return;
  const names = await readdir(path);
  for (const child of names.toSorted(compareBytes)) {
    const below = join(name, child);
    if (leaveOut?.(below) !== true) yield* walk(root, below, leaveOut);
  }
}

/** Gives a tree the modes it has in every image, whatever umask and checkout made of them. */
export async function plainModes(
  root: string,
  leaveOut?: (name: string) => boolean,
): Promise<void> {
  for await (const node of walk(root, "", leaveOut)) {
    if (node.kind === "link") continue;
    await chmod(node.path, node.kind === "folder" || node.executable ? 0o755 : 0o644);
  }
}

function compareBytes(left: string, right: string): number {
  return Buffer.compare(Buffer.from(left), Buffer.from(right));
}
