import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

export interface CpioMember {
  readonly name: string;
  /** File type and permissions, such as 0o100755. */
  readonly mode: number;
  readonly content: Uint8Array;
}

/**
 * An initramfs: folders, files and links owned by root, dated one second after the epoch. Format:
 * "newc", Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
 */
export function packCpio(members: readonly CpioMember[]): Buffer {
  const parts: Buffer[] = [];
  const add = (member: CpioMember, inode: number): void => {
    const name = Buffer.from(`${member.name}\0`);
    const links = (member.mode & 0o170000) === 0o040000 ? 2 : 1;
    // inode, mode, uid, gid, links, mtime, size, device (4 fields), length of name, checksum
    const fields = [inode, member.mode, 0, 0, links, 1, member.content.length, 0, 0, 0, 0];
    const header = [...fields, name.length, 0].map((field) => field.toString(16).padStart(8, "0"));
    parts.push(padded(Buffer.from(`070701${header.join("")}${name.toString("latin1")}`, "latin1")));
    parts.push(padded(Buffer.from(member.content)));
  };
  members.forEach((member, index) => add(member, index + 1));
  add({ name: "TRAILER!!!", mode: 0, content: new Uint8Array() }, 0);
  return Buffer.concat(parts);
}

/**
 * Writes an initramfs with busybox, the kernel modules of `modulesFolder` and `programs`, which go
 * into its root by their names.
 */
export async function writeInitramfs(
  path: string,
  options: {
    readonly busybox: string;
    readonly modulesFolder: string;
    readonly programs: Readonly<Record<string, string>>;
  },
): Promise<void> {
  const nothing = new Uint8Array();
  const members: CpioMember[] = ["bin", "dev", "modules"].map((name) => ({
    name,
    mode: 0o040755,
    content: nothing,
  }));
  members.push({ name: "bin/busybox", mode: 0o100755, content: await readFile(options.busybox) });
  members.push({ name: "bin/sh", mode: 0o120777, content: Buffer.from("busybox") });
  for (const name of (await readdir(options.modulesFolder)).toSorted()) {
    const content = await readFile(join(options.modulesFolder, name));
    members.push({ name: `modules/${name}`, mode: 0o100644, content });
  }
  for (const [name, source] of Object.entries(options.programs)) {
    members.push({ name, mode: 0o100755, content: await readFile(source) });
  }
  await writeFile(path, gzipSync(packCpio(members), { level: 9 }), { mode: 0o644 });
}

function padded(part: Buffer): Buffer {
  return Buffer.concat([part, Buffer.alloc((4 - (part.length % 4)) % 4)]);
}
