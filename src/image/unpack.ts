import { constants } from "node:fs";
import { chmod, mkdir, open, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { OperationError } from "../domain/errors.ts";
import { isErrno } from "../host/files.ts";
import {
  fileSource,
  readAll,
  readTar,
  type ByteSource,
  type TarEntry,
  type TarLimits,
} from "./tar-reader.ts";

/** What a builder says about its build; every field is checked for its form and none is trusted. */
export interface BuildAnswer {
  readonly attribute: string;
  /** `/nix/store/…`, a folder that was unpacked. */
  readonly storePath: string;
  readonly narHash: string;
  /** Names of the executables in the package's `bin`, sorted. */
  readonly programs: readonly string[];
}

/** An image larger than this is a mistake or an attack. */
const outputLimits: TarLimits = {
  maxContentBytes: 6 * 1024 ** 3,
  maxEntries: 500_000,
  maxNameBytes: 1024,
};

const maxAnswerBytes = 1024 * 1024;
/** What nix/builder/build writes into mvm-result. */
const answerNames: ReadonlySet<string> = new Set(["attribute", "out", "metadata.json", "closure"]);
const chunkBytes = 1024 * 1024;
const storeName = /^nix\/store\/[0-9a-df-np-sv-z]{32}-[\w+.?=-]{1,211}(?:\/|$)/;

/**
 * Unpacks a builder's output below `root`, a new folder nobody else writes to: `nix/store/…` and
 * nothing else. A member's folder must have come before it, so a link is never walked through. All
 * files get mode 0644 or 0755. @throws OperationError when the output is not what a builder writes.
 */
export async function unpackOutput(
  path: string,
  root: string,
  signal?: AbortSignal,
): Promise<BuildAnswer> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return await unpackSource(fileSource(file), root, outputLimits, signal);
  } finally {
    await file.close();
  }
}

/** As `unpackOutput`, from any bytes; for tests. */
export async function unpackSource(
  source: ByteSource,
  root: string,
  limits: TarLimits,
  signal?: AbortSignal,
): Promise<BuildAnswer> {
  const folders = new Set<string>(["nix", "nix/store"]);
  const answers = new Map<string, string>();
  const executables = new Set<string>();
  let complete = false;
  await mkdir(root, { recursive: true });
  for (const name of folders) await makeFolder(join(root, name));
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
    } else if (entry.name === "mvm-result" && entry.kind === "folder") {
      continue;
    } else {
      if (!storeName.test(entry.name)) throw refused(`${entry.name} is no part of a Nix store`);
      if (!folders.has(dirname(entry.name))) {
        throw refused(`${entry.name} comes before its folder`);
      }
      try {
        await placeEntry(source, entry, join(root, entry.name), signal);
      } catch (error) {
        if (!isErrno(error, "EEXIST")) throw error;
        throw refused(`${entry.name} is there twice`);
      }
      if (entry.kind === "folder") folders.add(entry.name);
      else if (entry.kind === "link" || entry.executable) executables.add(entry.name);
    }
  }
  // The drive is all zeros where the guest did not write, which looks like the end of a tar.
  if (!complete) throw refused("it was not finished");
  return describe(answers, folders, executables);
}

async function makeFolder(place: string): Promise<void> {
  await mkdir(place);
  // Whatever the umask is.
  await chmod(place, 0o755);
}

async function placeEntry(
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

function describe(
  answers: ReadonlyMap<string, string>,
  folders: ReadonlySet<string>,
  executables: ReadonlySet<string>,
): BuildAnswer {
  const storePath = answers.get("out") ?? "";
  const attribute = answers.get("attribute") ?? "";
  const narHash = /"narHash":"(sha256-[A-Za-z0-9+/]{43}=)"/.exec(
    answers.get("metadata.json") ?? "",
  );
  if (!/^\/nix\/store\/[^/]+$/.test(storePath) || !folders.has(storePath.slice(1))) {
    throw refused("the package is no folder of it");
  }
  if (!/^[\w-]{1,128}$/.test(attribute)) throw refused("it names no package");
  if (narHash?.[1] === undefined) throw refused("it has no hash of the flake");
  const bin = `${storePath.slice(1)}/bin/`;
  const programs = [...executables]
    .filter((name) => name.startsWith(bin) && !name.slice(bin.length).includes("/"))
    .map((name) => name.slice(bin.length))
    .toSorted();
  return { attribute, storePath, narHash: narHash[1], programs };
}

function refused(why: string): OperationError {
  return new OperationError(`the builder's output is refused: ${why}`);
}
