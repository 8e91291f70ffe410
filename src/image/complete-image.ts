import { open } from "node:fs/promises";
import { OperationError } from "../domain/errors.ts";

/** Offsets in the superblock of ext4, which lies 1024 bytes into the image. Source: Documentation/filesystems/ext4 of Linux. */
const superblock = {
  at: 1024,
  bytes: 1024,
  blocks: 0x04,
  logBlockSize: 0x18,
  magic: 0x38,
} as const;
const ext4Magic = 0xef53;
/** 1 KiB · 2^6 is the largest block there is. */
const maxLogBlockSize = 6;
/** The setup header of a bzImage. Source: Documentation/arch/x86/boot.rst of Linux. */
const bzImage = { at: 0x202, magic: "HdrS" } as const;
const elfMagic = Buffer.from([0x7f, 0x45, 0x4c, 0x46]);

/**
 * Looks at a root file system that somebody else made, without mounting it: it must begin like an ext4
 * and not claim to be larger than it is. @throws OperationError
 */
export async function checkExt4(path: string): Promise<void> {
  const { bytes, sizeBytes } = await readStart(path, superblock.at + superblock.bytes);
  if (bytes.length < superblock.at + superblock.bytes) {
    throw refused("rootfs.ext4 is too small to be an ext4 file system");
  }
  const block = bytes.subarray(superblock.at);
  if (block.readUInt16LE(superblock.magic) !== ext4Magic) {
    throw refused("rootfs.ext4 is no ext4 file system");
  }
  const logBlockSize = block.readUInt32LE(superblock.logBlockSize);
  const claimed = block.readUInt32LE(superblock.blocks) * 1024 * 2 ** logBlockSize;
  if (logBlockSize > maxLogBlockSize || claimed > sizeBytes || claimed === 0) {
    throw refused(`rootfs.ext4 does not say that it fits into its ${sizeBytes} bytes`);
  }
}

/** @throws OperationError when a file is nothing that a VMM could boot. */
export async function checkKernel(path: string): Promise<void> {
  const { bytes } = await readStart(path, 1024);
  const isBzImage = bytes.toString("latin1", bzImage.at, bzImage.at + 4) === bzImage.magic;
  if (!isBzImage && !bytes.subarray(0, elfMagic.length).equals(elfMagic)) {
    throw refused("kernel is neither a bzImage nor an ELF file");
  }
}

async function readStart(
  path: string,
  length: number,
): Promise<{ bytes: Buffer; sizeBytes: number }> {
  const file = await open(path, "r");
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, 0);
    return { bytes: buffer.subarray(0, bytesRead), sizeBytes: (await file.stat()).size };
  } finally {
    await file.close();
  }
}

function refused(why: string): OperationError {
  return new OperationError(`the flake's image is refused: ${why}`, {
    hint: "docs/images.md says what a complete image has to hold",
  });
}
