import type { FileHandle } from "node:fs/promises";
import { OperationError } from "../domain/errors.ts";

/** Bytes that can be read at a place; a read beyond the end answers fewer bytes than asked. */
export interface ByteSource {
  read(position: number, length: number): Promise<Buffer>;
}

export interface TarLimits {
  /** Of all contents together. */
  readonly maxContentBytes: number;
  readonly maxEntries: number;
  readonly maxNameBytes: number;
}

export type TarEntry =
  | { readonly kind: "folder"; readonly name: string }
  | { readonly kind: "link"; readonly name: string; readonly target: string }
  | {
      readonly kind: "file";
      readonly name: string;
      readonly sizeBytes: number;
      readonly executable: boolean;
      /** Where its content begins in the source. */
      readonly position: number;
    };

const blockBytes = 512;
const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

export function fileSource(file: FileHandle): ByteSource {
  return {
    read: async (position, length) => {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, position);
      return buffer.subarray(0, bytesRead);
    },
  };
}

/**
 * Reads a tar that nobody vouches for: plain files, folders and symbolic links only, with names that
 * stay inside the tree and every size bounded. Format: POSIX ustar with GNU's long names, as GNU tar
 * writes it with `--format=gnu --hard-dereference`, or POSIX pax with names in extended headers, as
 * git-archive(1) writes it. @throws OperationError at the first thing that is
 * not as it should be; what was yielded until then must be thrown away.
 */
export async function* readTar(
  source: ByteSource,
  limits: TarLimits,
): AsyncGenerator<TarEntry, void, undefined> {
  let position = 0;
  let contentBytes = 0;
  let entries = 0;
  let longName: string | undefined;
  let longTarget: string | undefined;
  for (;;) {
    const header = await source.read(position, blockBytes);
    if (header.length < blockBytes) throw refused("it ends in the middle");
    if (header.every((byte) => byte === 0)) return;
    checkSum(header);
    entries += 1;
    if (entries > limits.maxEntries) throw refused(`more than ${limits.maxEntries} entries`);
    position += blockBytes;

    const type = String.fromCharCode(header[156] ?? 0);
    // GNU's binary form is for sizes of 8 GiB and more, which no limit here allows.
    if (((header[124] ?? 0) & 0x80) !== 0) throw tooLarge(limits);
    const sizeBytes = octal(header, 124, 12);
    contentBytes += sizeBytes;
    if (contentBytes > limits.maxContentBytes) throw tooLarge(limits);
    const contentPosition = position;
    position += Math.ceil(sizeBytes / blockBytes) * blockBytes;

    if (type === "L" || type === "K") {
      // The text ends with a NUL, which counts.
      if (sizeBytes > limits.maxNameBytes + 1) throw refused("a name is too long");
      const text = field(await readAll(source, contentPosition, sizeBytes), 0, sizeBytes);
      if (type === "L") longName = text;
      else longTarget = text;
      continue;
    }
    if (type === "g") continue; // Of the whole archive: git's name of the commit.
    if (type === "x") {
      if (sizeBytes > 4 * limits.maxNameBytes) throw refused("a name is too long");
      const records = paxRecords(await readAll(source, contentPosition, sizeBytes));
      longName = records.get("path");
      longTarget = records.get("linkpath");
      if (records.has("size")) throw tooLarge(limits);
      continue;
    }
    const name = checkName(longName ?? shortName(header), limits);
    const target = longTarget ?? field(header, 157, 100);
    longName = undefined;
    longTarget = undefined;
    if (type === "0" || type === "\0") {
      const executable = (octal(header, 100, 8) & 0o111) !== 0;
      yield { kind: "file", name, sizeBytes, executable, position: contentPosition };
    } else if (type === "5" || type === "2") {
      if (sizeBytes !== 0) throw refused(`${name} has content and is no file`);
      if (type === "5") yield { kind: "folder", name };
      else yield { kind: "link", name, target: checkTarget(name, target, limits) };
    } else {
      throw refused(`${name} is neither a file, a folder nor a symbolic link`);
    }
  }
}

/** A name that fits the header; POSIX splits one in two at a slash, GNU has times where the first part would be. */
function shortName(header: Buffer): string {
  const isPosix = header.toString("latin1", 257, 263) === "ustar\0";
  const prefix = isPosix ? field(header, 345, 155) : "";
  return prefix === "" ? field(header, 0, 100) : `${prefix}/${field(header, 0, 100)}`;
}

/** The records of an extended header: `<length> <key>=<value>\n`, the length being that of the record. */
function paxRecords(content: Buffer): Map<string, string> {
  const records = new Map<string, string>();
  for (let position = 0; position < content.length;) {
    const text = content.toString("latin1", position, position + 20);
    const length = Number(/^[1-9]\d{0,8}(?= )/.exec(text)?.[0] ?? "0");
    const record = content.subarray(position, position + length);
    const equals = record.indexOf("=");
    if (length === 0 || record.length < length || record.at(-1) !== 0x0a || equals === -1) {
      throw refused("an extended header is not understood");
    }
    const key = record.toString("latin1", record.indexOf(" ") + 1, equals);
    records.set(key, field(record, equals + 1, length - equals - 2));
    position += length;
  }
  return records;
}

/** Reads exactly `length` bytes. @throws OperationError when there are fewer. */
export async function readAll(
  source: ByteSource,
  position: number,
  length: number,
): Promise<Buffer> {
  const content = await source.read(position, length);
  if (content.length < length) throw refused("it ends in the middle");
  return content;
}

function checkName(raw: string, limits: TarLimits): string {
  const name = raw.endsWith("/") ? raw.slice(0, -1) : raw;
  if (Buffer.byteLength(name) > limits.maxNameBytes) throw refused("a name is too long");
  const safe = name
    .split("/")
    .every((part) => part !== "" && part !== "." && part !== ".." && Buffer.byteLength(part) < 256);
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  if (!safe || /[\u0000-\u001f\u007f]/.test(name)) {
    throw refused(`the name ${JSON.stringify(name.slice(0, 200))} is not allowed`);
  }
  return name;
}

/**
 * A relative link may not climb out of the tree. An absolute one is resolved by the guest, whose root
 * the tree is; on the host no link of the tree is ever followed.
 */
function checkTarget(name: string, target: string, limits: TarLimits): string {
  const tooLong = Buffer.byteLength(target) > limits.maxNameBytes;
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  if (target === "" || tooLong || /[\u0000-\u001f\u007f]/.test(target)) {
    throw refused(`the link ${name} has a target that is not allowed`);
  }
  if (target.startsWith("/")) {
    if (target.split("/").includes("..")) throw refused(`the link ${name} leads out of the tree`);
    return target;
  }
  let depth = name.split("/").length - 1;
  for (const part of target.split("/")) {
    if (part === "..") depth -= 1;
    else if (part !== "" && part !== ".") depth += 1;
    if (depth < 0) throw refused(`the link ${name} leads out of the tree`);
  }
  return target;
}

function checkSum(header: Buffer): void {
  let sum = 0;
  for (const [index, byte] of header.entries()) sum += index >= 148 && index < 156 ? 32 : byte;
  if (octal(header, 148, 8) !== sum) throw refused("a header has a wrong checksum");
}

function octal(header: Buffer, start: number, length: number): number {
  const text = header
    .toString("latin1", start, start + length)
    .replace(/[\0 ]+$/, "")
    .trimStart();
  if (!/^[0-7]{1,12}$/.test(text)) throw refused("a header has a number that is none");
  return Number.parseInt(text, 8);
}

function field(buffer: Buffer, start: number, length: number): string {
  const bytes = buffer.subarray(start, start + length);
  const end = bytes.indexOf(0);
  try {
    return strictUtf8.decode(end === -1 ? bytes : bytes.subarray(0, end));
  } catch (error) {
    if (error instanceof TypeError) throw refused("a name is not UTF-8");
    throw error;
  }
}

function refused(why: string): OperationError {
  return new OperationError(`the builder's output is refused: ${why}`);
}

function tooLarge(limits: TarLimits): OperationError {
  return refused(`more than ${limits.maxContentBytes} bytes of content`);
}
