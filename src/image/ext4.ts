import { lutimes, mkdir, open, rm, writeFile, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { OperationError } from "../domain/errors.ts";
import type { Exec } from "../ports/exec.ts";
import { walk } from "./tree.ts";

export interface Ext4Options {
  readonly exec: Exec;
  /** The folder whose content becomes the file system. Its times are changed. */
  readonly tree: string;
  /** The image to write; one that is there is replaced. */
  readonly image: string;
  /** At most 16 characters. */
  readonly label: string;
  readonly signal?: AbortSignal;
}

const blockBytes = 4096;
const inodeBytes = 256;
/** More than the file system's own. */
const spareInodes = 64;
const toolTimeoutMs = 10 * 60_000;
const maxAttempts = 4;

/** One for all images: their content tells them apart, and nothing looks for them by it. */
const uuid = "6d766d00-0000-4000-8000-00000000e4f5";

/** What e2fsprogs takes for the present time, so that no clock gets into an image. */
const environment: Readonly<Record<string, string>> = {
  PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C",
  E2FSPROGS_FAKE_TIME: "1",
};

/**
 * Makes an ext4 image of a tree, only as large as it must be and without a journal: the same tree gives
 * the same image, bit for bit. Links of the tree are copied and never followed, and no name of the tree
 * is ever part of a command. @throws OperationError, HostLacksError without e2fsprogs.
 */
export async function makeExt4(options: Ext4Options): Promise<void> {
  const { inodes, blocks: estimate } = await prepareTree(options.tree);
  let blocks = estimate;
  await mkdir(dirname(options.image), { recursive: true });
  for (let attempt = 1; ; attempt += 1) {
    await rm(options.image, { force: true });
    const result = await options.exec.tryRun("mkfs.ext4", mkfsArguments(options, blocks, inodes), {
      timeoutMs: toolTimeoutMs,
      env: environment,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    if (result.exitCode === 0) break;
    const full = /Could not allocate|No space left|allocate block/i.test(result.stderr);
    if (!full || attempt === maxAttempts) {
      throw new OperationError(`mkfs.ext4 failed: ${result.stderr.trim().slice(-500)}`);
    }
    // The estimate was too low: the next size is a function of it alone, and so repeatable.
    blocks = Math.ceil(blocks * 1.1);
  }
  await removeClock(options);
}

/** An empty, sparse ext4 disk of `sizeBytes` for a guest to write to. */
export async function makeScratchDisk(
  exec: Exec,
  image: string,
  sizeBytes: number,
  signal?: AbortSignal,
): Promise<void> {
  const size = `${Math.ceil(sizeBytes / 1024)}k`;
  const args = ["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "nodiscard", image, size];
  await exec.run("mkfs.ext4", args, {
    timeoutMs: toolTimeoutMs,
    ...(signal === undefined ? {} : { signal }),
  });
}

function mkfsArguments(options: Ext4Options, blocks: number, inodes: number): string[] {
  return [
    "-q",
    "-F",
    "-O^has_journal,^resize_inode",
    "-m0",
    `-b${blockBytes}`,
    `-I${inodeBytes}`,
    `-N${inodes + spareInodes}`,
    `-U${uuid}`,
    `-Ehash_seed=${uuid},lazy_itable_init=0,nodiscard,root_owner=0:0`,
    "-L",
    options.label,
    "-d",
    options.tree,
    options.image,
    String(blocks),
  ];
}

/** Sets all times of a tree to one second after the epoch, as Nix does, and measures it. */
async function prepareTree(tree: string): Promise<{ inodes: number; blocks: number }> {
  let inodes = 0;
  let blocks = 0;
  for await (const node of walk(tree)) {
    await lutimes(node.path, 1, 1);
    inodes += 1;
    // Names of a folder take its blocks.
    blocks += (Buffer.byteLength(node.name) + 24) / blockBytes;
    if (node.kind === "file") blocks += Math.ceil(node.sizeBytes / blockBytes);
    else if (node.kind === "folder" || node.sizeBytes >= 60) blocks += 1;
  }
  blocks += ((inodes + spareInodes) * inodeBytes) / blockBytes;
  // Bitmaps and descriptors of each group of 32,768 blocks, and the copies of the superblock.
  blocks += Math.ceil(blocks / 32_768) * 8;
  return { inodes, blocks: Math.ceil(blocks * 1.005) + 256 };
}

/**
 * mkfs.ext4 copies each file's change time, which nothing can set, and counts what was written. Inodes
 * are named by number, since a name of the tree could hold a command of debugfs.
 */
async function removeClock(options: Ext4Options): Promise<void> {
  const commands: string[] = [];
  for (const inode of await usedInodes(options.image)) {
    commands.push(`sif <${inode}> ctime @1`, `sif <${inode}> atime @1`);
  }
  // Last, since each of the commands above counts as a write.
  commands.push("ssv kbytes_written 0", "");
  const script = `${options.image}.debugfs`;
  try {
    await writeFile(script, commands.join("\n"));
    await options.exec.run("debugfs", ["-w", "-f", script, options.image], {
      timeoutMs: toolTimeoutMs,
      env: environment,
      // It repeats every command.
      maxOutputBytes: 256 * 1024 * 1024,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
  } finally {
    await rm(script, { force: true });
  }
}

/** Reads the inode bitmaps. Layout: Documentation/filesystems/ext4 of Linux, superblock and group descriptors. */
async function usedInodes(image: string): Promise<number[]> {
  const file = await open(image, "r");
  try {
    const superblock = await read(file, 1024, 1024);
    const blocks = superblock.readUInt32LE(0x04);
    const blocksPerGroup = superblock.readUInt32LE(0x20);
    const inodesPerGroup = superblock.readUInt32LE(0x28);
    const descriptorBytes = superblock.readUInt16LE(0xfe) || 32;
    const groups = Math.ceil(blocks / blocksPerGroup);
    const descriptors = await read(file, blockBytes, groups * descriptorBytes);
    const used: number[] = [];
    for (let group = 0; group < groups; group += 1) {
      const start = group * descriptorBytes;
      const uninitialised = (descriptors.readUInt16LE(start + 0x12) & 1) !== 0;
      if (uninitialised) continue;
      const bitmapBlock = descriptors.readUInt32LE(start + 4);
      const bitmap = await read(file, bitmapBlock * blockBytes, Math.ceil(inodesPerGroup / 8));
      for (let index = 0; index < inodesPerGroup; index += 1) {
        const inode = group * inodesPerGroup + index + 1;
        const isUsed = ((bitmap[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;
        // Inodes below 11 are the file system's own, save 2, its root.
        if (isUsed && (inode === 2 || inode >= 11)) used.push(inode);
      }
    }
    return used;
  } finally {
    await file.close();
  }
}

async function read(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, position);
  if (bytesRead < length) throw new OperationError("the ext4 image is cut short");
  return buffer;
}
