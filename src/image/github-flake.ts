import { randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, open, rename, rm, utimes } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { NotFoundError, OperationError, UsageError } from "../domain/errors.ts";
import { isErrno, listFolderIfAny, statIfAny, syncFolder } from "../host/files.ts";
import type { Download } from "../ports/download.ts";
import type { FlakeSource } from "./flake-source.ts";
import { narHash } from "./nar.ts";
import { makeFolder, placeEntry } from "./place-entry.ts";
import { fileSource, readTar, type TarLimits } from "./tar-reader.ts";

/** A flake on GitHub as its reference names it. */
interface GithubRef {
  readonly owner: string;
  readonly repo: string;
  /** A branch, a tag or a commit; the default branch without it. */
  readonly ref: string | undefined;
  /** What the content must be, when the reference says so. */
  readonly narHash: string | undefined;
}

export interface GithubOptions {
  /** `<stateDir>/flakes`; one folder a commit. */
  readonly folder: string;
  readonly download: Download;
  /** Default `https://api.github.com`. */
  readonly apiUrl?: string;
  readonly nowMs: () => number;
}

const refPattern =
  /^github:([A-Za-z0-9][A-Za-z0-9-]{0,38})\/([\w.-]{1,100})(?:\/([\w.+-]+(?:\/[\w.+-]+)*))?(?:\?narHash=([^&#]+))?$/;
const commitPattern = /^[0-9a-f]{40}$/;
const resolveTimeoutMs = 30_000;
const fetchTimeoutMs = 10 * 60_000;
const maxArchiveBytes = 256 * 1024 ** 2;
const limits: TarLimits = {
  maxContentBytes: 1024 ** 3,
  maxEntries: 100_000,
  maxNameBytes: 1024,
};
const unfinishedPrefix = ".new-";
/** Longer than any fetch may take. */
const unfinishedAgeMs = 30 * 60_000;
/** A source that no build asked for in so long is fetched again when it is needed. */
const keptMs = 7 * 24 * 3_600_000;

/** Whether a flake reference is one of GitHub's. */
export function isGithubRef(flakeRef: string): boolean {
  return flakeRef.startsWith("github:");
}

/**
 * Sources of flakes on GitHub. The host fetches them itself, so that a builder needs no network for it
 * and the hash that a revision records is of bytes the host has seen. Each commit is fetched once.
 */
export class GithubFlakes {
  readonly #options: GithubOptions;
  /** One command stays with the commit that it saw first. */
  readonly #resolved = new Map<string, Promise<string>>();

  constructor(options: GithubOptions) {
    this.#options = options;
  }

  /** @throws UsageError, NotFoundError; OperationError when it cannot be fetched or is not what the reference says. */
  async find(flakeRef: string, signal?: AbortSignal): Promise<FlakeSource> {
    const wanted = parseRef(flakeRef);
    const commit = await this.#commitOf(wanted, signal);
    const folder = join(this.#options.folder, `${wanted.owner}-${wanted.repo}-${commit}`);
    if ((await statIfAny(folder))?.isDirectory() !== true)
      await this.#fetch(wanted, commit, folder, signal);
    const now = new Date(this.#options.nowMs());
    await utimes(folder, now, now);
    if ((await statIfAny(join(folder, "flake.nix")))?.isFile() !== true) {
      throw new NotFoundError(`${wanted.owner}/${wanted.repo} has no flake.nix at ${commit}`);
    }
    const hash = wanted.narHash === undefined ? undefined : await narHash(folder);
    if (hash !== wanted.narHash) {
      throw new OperationError(
        `${flakeRef} is not what it should be: its NAR hash is ${hash ?? "unknown"}`,
        { hint: "the reference was changed, or the content was: do not build it before you know" },
      );
    }
    return { flakeRef, folder, url: `github:${wanted.owner}/${wanted.repo}/${commit}` };
  }

  /** What a fetch that died left, and sources that nothing used for long; with `remove`, they are gone then. */
  async stale(remove: boolean): Promise<string[]> {
    const found: string[] = [];
    for (const name of await listFolderIfAny(this.#options.folder)) {
      const path = join(this.#options.folder, name);
      const unfinished = name.startsWith(unfinishedPrefix);
      // Somebody else may have removed it since it was listed: it is as new as can be then.
      const modifiedMs = (await statIfAny(path))?.mtimeMs ?? Number.POSITIVE_INFINITY;
      const ageMs = this.#options.nowMs() - modifiedMs;
      if (ageMs < (unfinished ? unfinishedAgeMs : keptMs)) continue;
      if (remove) await rm(path, { recursive: true, force: true });
      if (unfinished) found.push(`unfinished flake source ${name}`);
    }
    return found;
  }

  #commitOf({ owner, repo, ref }: GithubRef, signal?: AbortSignal): Promise<string> {
    if (ref !== undefined && commitPattern.test(ref)) return Promise.resolve(ref);
    const name = `${owner}/${repo}/${ref ?? "HEAD"}`;
    const known = this.#resolved.get(name);
    if (known !== undefined) return known;
    const resolving = this.#ask(owner, repo, ref ?? "HEAD", signal);
    this.#resolved.set(name, resolving);
    return resolving;
  }

  /** Source: GitHub REST API, "Get a commit", media type sha. */
  async #ask(owner: string, repo: string, ref: string, signal?: AbortSignal): Promise<string> {
    const chunks: Uint8Array[] = [];
    const url = `${this.#apiUrl}/repos/${owner}/${repo}/commits/${encodeURIComponent(ref)}`;
    const answer = this.#options.download.get(url, {
      accept: "application/vnd.github.sha",
      timeoutMs: resolveTimeoutMs,
      maxBytes: 1024,
      ...(signal === undefined ? {} : { signal }),
    });
    for await (const chunk of answer) chunks.push(chunk);
    const commit = Buffer.concat(chunks).toString("latin1").trim();
    if (commitPattern.test(commit)) return commit;
    throw new OperationError(`GitHub did not say which commit ${owner}/${repo} ${ref} is`);
  }

  /** Unpacks a commit's archive beside its place and renames it into it whole. */
  async #fetch(
    { owner, repo }: GithubRef,
    commit: string,
    place: string,
    signal?: AbortSignal,
  ): Promise<void> {
    await mkdir(this.#options.folder, { recursive: true, mode: 0o700 });
    const work = join(this.#options.folder, `${unfinishedPrefix}${randomBytes(6).toString("hex")}`);
    await mkdir(work, { mode: 0o700 });
    try {
      const archive = join(work, "source.tar");
      const bytes = this.#options.download.get(
        `${this.#apiUrl}/repos/${owner}/${repo}/tarball/${commit}`,
        {
          timeoutMs: fetchTimeoutMs,
          maxBytes: maxArchiveBytes,
          ...(signal === undefined ? {} : { signal }),
        },
      );
      await gunzipTo(archive, bytes);
      const tree = join(work, "tree");
      await unpackArchive(archive, tree, signal);
      await renameUnlessThere(tree, place);
      await syncFolder(this.#options.folder);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  get #apiUrl(): string {
    return this.#options.apiUrl ?? "https://api.github.com";
  }
}

/** @throws UsageError for a reference of a form that mvm does not know. */
function parseRef(flakeRef: string): GithubRef {
  const match = refPattern.exec(flakeRef);
  const [, owner, repo, ref, hash] = match ?? [];
  if (owner === undefined || repo === undefined || /^\.+$/.test(repo) || ref?.includes("..")) {
    throw new UsageError(`"${flakeRef}" is not a GitHub flake that mvm understands`, {
      hint: "use github:<owner>/<repo>[/<branch, tag or commit>][?narHash=sha256-…]",
    });
  }
  return { owner, repo, ref, narHash: hash === undefined ? undefined : decodeHash(hash) };
}

function decodeHash(text: string): string {
  const hash = text.replaceAll("%2B", "+").replaceAll("%2F", "/").replaceAll("%3D", "=");
  if (/^sha256-[A-Za-z0-9+/]{43}=$/.test(hash)) return hash;
  throw new UsageError(`"${hash}" is not a NAR hash`, {
    hint: "it looks like sha256-<44 characters>",
  });
}

/** @throws OperationError when it is not gzip, or unpacks to more than a flake may be. */
async function gunzipTo(target: string, bytes: AsyncIterable<Uint8Array>): Promise<void> {
  const bounded = async function* (chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    let total = 0;
    for await (const chunk of chunks) {
      total += chunk.length;
      if (total > limits.maxContentBytes) {
        throw new OperationError(`the flake unpacks to more than ${limits.maxContentBytes} bytes`);
      }
      yield chunk;
    }
  };
  try {
    await pipeline(
      Readable.from(bytes),
      createGunzip(),
      bounded,
      createWriteStream(target, { mode: 0o600 }),
    );
  } catch (error) {
    if (!isErrno(error, "Z_DATA_ERROR") && !isErrno(error, "Z_BUF_ERROR")) throw error;
    throw new OperationError("GitHub's archive of the flake is damaged", { cause: error });
  }
}

/** Everything lies in one folder, which is named for the commit and left out. */
async function unpackArchive(archive: string, tree: string, signal?: AbortSignal): Promise<void> {
  const file = await open(archive, "r");
  try {
    const source = fileSource(file);
    const folders = new Set<string>();
    for await (const entry of readTar(source, limits)) {
      signal?.throwIfAborted();
      const [top = "", ...rest] = entry.name.split("/");
      const parent = [top, ...rest.slice(0, -1)].join("/");
      if (rest.length === 0 ? folders.size > 0 || entry.kind !== "folder" : !folders.has(parent)) {
        throw new OperationError(`GitHub's archive has ${entry.name} out of its place`);
      }
      if (rest.length === 0) await makeFolder(tree);
      else await placeEntry(source, entry, join(tree, ...rest), signal);
      if (entry.kind === "folder") folders.add(entry.name);
    }
    if (folders.size === 0) throw new OperationError("GitHub's archive of the flake is empty");
  } finally {
    await file.close();
  }
}

/** Two that fetch the same commit at once make the same: the first one's stays. */
async function renameUnlessThere(tree: string, place: string): Promise<void> {
  try {
    await rename(tree, place);
  } catch (error) {
    if (!isErrno(error, "ENOTEMPTY") && !isErrno(error, "EEXIST")) throw error;
  }
}
