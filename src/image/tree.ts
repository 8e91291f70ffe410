import { createHash, type Hash } from "node:crypto";
import { chmod, lstat, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { UsageError } from "../domain/errors.ts";
import { sha256OfFile } from "../host/files.ts";

const maxFlakeEntries = 100_000;
const maxFlakeBytes = 1024 ** 3;

export interface TreeNode {
  readonly path: string;
  /** Below the root; empty for the root itself. */
  readonly name: string;
  readonly kind: "folder" | "file" | "link";
  readonly sizeBytes: number;
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
  yield { path, name, kind, sizeBytes: stat.size, executable: (stat.mode & 0o111) !== 0 };
  if (kind !== "folder") return;
  const names = await readdir(path);
  for (const child of names.toSorted(compareBytes)) {
    const below = join(name, child);
    if (leaveOut?.(below) !== true) yield* walk(root, below, leaveOut);
  }
}

/**
 * A hash of names, contents, links and executable bits, in the manner of Nix's NAR: two trees with the
 * same hash build the same. @throws UsageError when the tree is too large for a flake.
 */
export async function hashTree(
  root: string,
  leaveOut?: (name: string) => boolean,
): Promise<string> {
  const hash = createHash("sha256");
  let entries = 0;
  let bytes = 0;
  for await (const node of walk(root, "", leaveOut)) {
    entries += 1;
    bytes += node.kind === "file" ? node.sizeBytes : 0;
    if (entries > maxFlakeEntries || bytes > maxFlakeBytes) {
      throw new UsageError(
        `${root} is too large for a flake: at most ${maxFlakeEntries} files and ${maxFlakeBytes} bytes`,
      );
    }
    addField(hash, node.name);
    addField(hash, node.executable && node.kind === "file" ? "program" : node.kind);
    if (node.kind === "link") addField(hash, await readlink(node.path));
    if (node.kind === "file") addField(hash, await sha256OfFile(node.path));
  }
  return hash.digest("hex");
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

/** With its length before it, no two different lists of fields give the same bytes. */
function addField(hash: Hash, value: string): void {
  hash.update(`${Buffer.byteLength(value)}:${value}`);
}
