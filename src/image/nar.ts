import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readlink } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { OperationError, UsageError } from "../domain/errors.ts";
import { walk, type TreeNode } from "./tree.ts";

export interface NarOptions {
  /** Asked for each name below the root; what it is true of is no part of the tree. */
  readonly leaveOut?: (name: string) => boolean;
  readonly signal?: AbortSignal;
}

const maxEntries = 100_000;
const maxBytes = 1024 ** 3;

/**
 * The hash by which Nix names the content of a tree, as SRI: `sha256-…=`. It covers names, contents,
 * links and executable bits, and no times, owners or places. The host computes it itself, so that what
 * a revision says of its inputs does not rest on the word of a builder.
 * Format: E. Dolstra, "The Purely Functional Software Deployment Model", figure 5.2.
 * @throws UsageError when the tree is too large for an input of a flake.
 */
export async function narHash(root: string, options: NarOptions = {}): Promise<string> {
  const hash = createHash("sha256");
  addStrings(hash, "nix-archive-1");
  // Folders that were entered and not left yet, outermost first; the root's name is empty.
  const open: string[] = [];
  const leave = (parent: string | undefined): void => {
    while (open.length > 0 && open.at(-1) !== parent) {
      // The folder itself, and its entry in the folder around it.
      addStrings(hash, ...(open.pop() === "" ? [")"] : [")", ")"]));
    }
  };
  let entries = 0;
  let bytes = 0;
  for await (const node of walk(root, "", options.leaveOut)) {
    options.signal?.throwIfAborted();
    entries += 1;
    bytes += node.kind === "file" ? node.sizeBytes : 0;
    if (entries > maxEntries || bytes > maxBytes) {
      throw new UsageError(
        `${root} is too large for a flake: at most ${maxEntries} files and ${maxBytes} bytes`,
      );
    }
    if (node.name !== "") {
      const parent = dirname(node.name);
      leave(parent === "." ? "" : parent);
      addStrings(hash, "entry", "(", "name", basename(node.name), "node");
    }
    await addNode(hash, node, options.signal);
    if (node.kind === "folder") open.push(node.name);
    else if (node.name !== "") addStrings(hash, ")");
  }
  leave(undefined);
  return `sha256-${hash.digest("base64")}`;
}

/** All of a link or file; the beginning of a folder. */
async function addNode(hash: Hash, node: TreeNode, signal?: AbortSignal): Promise<void> {
  addStrings(hash, "(", "type");
  if (node.kind === "folder") addStrings(hash, "directory");
  else if (node.kind === "link") {
    addStrings(hash, "symlink", "target", await readlink(node.path), ")");
  } else {
    addStrings(hash, "regular", ...(node.executable ? ["executable", ""] : []), "contents");
    addLength(hash, node.sizeBytes);
    let read = 0;
    for await (const chunk of createReadStream(node.path, { highWaterMark: 1 << 20, signal })) {
      hash.update(chunk as Buffer);
      read += (chunk as Buffer).length;
    }
    if (read !== node.sizeBytes) throw new OperationError(`${node.path} changed while it was read`);
    hash.update(padding(read));
    addStrings(hash, ")");
  }
}

function addStrings(hash: Hash, ...texts: readonly string[]): void {
  for (const text of texts) {
    const bytes = Buffer.from(text);
    addLength(hash, bytes.length);
    hash.update(bytes);
    hash.update(padding(bytes.length));
  }
}

function addLength(hash: Hash, length: number): void {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(length));
  hash.update(bytes);
}

function padding(length: number): Buffer {
  return Buffer.alloc((8 - (length % 8)) % 8);
}
