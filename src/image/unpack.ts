import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { dirname, join } from "node:path";
import { OperationError } from "../domain/errors.ts";
import { isErrno } from "../host/files.ts";
import { describeAnswer, type BuildAnswer, type OutputNames } from "./build-answer.ts";
import { makeFolder, placeEntry } from "./place-entry.ts";
import {
  fileSource,
  readAll,
  readTar,
  type ByteSource,
  type TarEntry,
  type TarLimits,
} from "./tar-reader.ts";

/** Where a builder's output is unpacked: two new folders nobody else writes to. */
export interface UnpackPlaces {
  /** Becomes the root file system: `nix/store/…`, or all of it when the flake makes a tree of its own. */
  readonly tree: string;
  /** Gets `kernel`, `initrd` and `rootfs.ext4` of a complete image. */
  readonly image: string;
}

/** An image larger than this is a mistake or an attack. */
const outputLimits: TarLimits = {
  maxContentBytes: 6 * 1024 ** 3,
  maxEntries: 500_000,
  maxNameBytes: 1024,
};

const maxAnswerBytes = 1024 * 1024;
/** What nix/builder/build writes into mvm-result. */
const answerNames: ReadonlySet<string> = new Set([
  "attribute",
  "out",
  "modules",
  "metadata.json",
  "closure",
]);
const mib = 1024 * 1024;
/** The files of a complete image, and the most bytes of each: a guest has to load the first two. */
const imageFiles: ReadonlyMap<string, number> = new Map([
  ["kernel", 256 * mib],
  ["initrd", 512 * mib],
  ["rootfs.ext4", outputLimits.maxContentBytes],
]);
const storeName = /^nix\/store\/[0-9a-df-np-sv-z]{32}-[\w+.?=-]{1,211}(?:\/|$)/;
const imageFolder = "mvm-image";
const rootfsFolder = "mvm-image/rootfs";
const storeFolder = "nix/store";
/** Those of an output itself, which have no place in an image. */
const plainFolders: ReadonlySet<string> = new Set(["mvm-result", imageFolder, rootfsFolder]);

/**
 * Unpacks a builder's output: `nix/store/…`, or `mvm-image/…` of a complete image, and nothing else.
 * A member's folder must have come before it, so a link is never walked through. All files get mode
 * 0644 or 0755. @throws OperationError when the output is not what a builder writes.
 */
export async function unpackOutput(
  path: string,
  places: UnpackPlaces,
  signal?: AbortSignal,
): Promise<BuildAnswer> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return await unpackSource(fileSource(file), places, outputLimits, signal);
  } finally {
    await file.close();
  }
}

/** As `unpackOutput`, from any bytes; for tests. */
export async function unpackSource(
  source: ByteSource,
  places: UnpackPlaces,
  limits: TarLimits,
  signal?: AbortSignal,
): Promise<BuildAnswer> {
  const folders = new Set<string>();
  const answers = new Map<string, string>();
  const executables = new Set<string>();
  const files = new Set<string>();
  let complete = false;
  await makeFolder(places.tree);
  for await (const entry of readTar(source, limits)) {
    signal?.throwIfAborted();
    if (complete) throw refused("something follows its end");
    if (entry.name === "mvm-result-end") {
      complete = true;
    } else if (entry.name.startsWith("mvm-result/") && entry.kind === "file") {
      const name = entry.name.slice("mvm-result/".length);
      if (!answerNames.has(name)) throw refused(`${entry.name} is no answer of a builder`);
      if (answers.has(name)) throw refused(`${entry.name} is there twice`);
      if (entry.sizeBytes > maxAnswerBytes) throw refused(`${entry.name} is too large`);
      const content = await readAll(source, entry.position, entry.sizeBytes);
      answers.set(name, content.toString("utf8").trim());
    } else if (plainFolders.has(entry.name) && entry.kind === "folder") {
      folders.add(entry.name);
    } else {
      const parent = dirname(entry.name);
      if (!folders.has(parent) && parent !== storeFolder) {
        throw refused(`${entry.name} comes before its folder`);
      }
      const place = placeOf(entry, places);
      try {
        if (parent === storeFolder && !folders.has(storeFolder)) {
          await makeFolder(join(places.tree, "nix"));
          await makeFolder(join(places.tree, storeFolder));
          folders.add(storeFolder);
        }
        await placeEntry(source, entry, place, signal);
      } catch (error) {
        if (!isErrno(error, "EEXIST")) throw error;
        throw refused(`${entry.name} is there twice`);
      }
      if (entry.kind === "folder") folders.add(entry.name);
      else if (entry.kind === "file") files.add(entry.name);
      if (entry.kind === "link" || (entry.kind === "file" && entry.executable)) {
        executables.add(entry.name);
      }
    }
  }
  // The drive is all zeros where the guest did not write, which looks like the end of a tar.
  if (!complete) throw refused("it was not finished");
  const names: OutputNames = { folders, files, executables };
  return describeAnswer(answers, names);
}

/** @throws OperationError for a name that has no place in an output. */
function placeOf(entry: TarEntry, places: UnpackPlaces): string {
  const { name } = entry;
  if (storeName.test(name)) return join(places.tree, name);
  if (name.startsWith(`${rootfsFolder}/`)) {
    return join(places.tree, name.slice(rootfsFolder.length + 1));
  }
  const file = name.slice(imageFolder.length + 1);
  const maxBytes = name.startsWith(`${imageFolder}/`) ? imageFiles.get(file) : undefined;
  if (maxBytes === undefined) throw refused(`${name} is no part of an image or a Nix store`);
  if (entry.kind !== "file") throw refused(`${name} is no file`);
  if (entry.sizeBytes > maxBytes) throw refused(`${name} has more than ${maxBytes} bytes`);
  return join(places.image, file);
}

function refused(why: string): OperationError {
  return new OperationError(`the builder's output is refused: ${why}`);
}
