import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import * as z from "zod";
import {
  isErrno,
  listFolderIfAny,
  readFileIfAny,
  statIfAny,
  writeFileAtomic,
} from "../host/files.ts";

/** `builds/<build-id>/build.json`: written before anything else of a build exists. */
export interface BuildRecord {
  readonly schema_version: 1;
  readonly build_id: string;
  readonly key: string;
  readonly flake_ref: string;
  readonly started_at: string;
  /** The mvm that builds: once it is gone, so should be all of the build. */
  readonly owner: { readonly pid: number; readonly startTicks: number };
}

const recordSchema: z.ZodType<BuildRecord> = z.strictObject({
  schema_version: z.literal(1),
  build_id: z.string().regex(/^b-[0-9a-f]{8}$/),
  key: z.string().regex(/^[0-9a-f]{64}$/),
  flake_ref: z.string(),
  started_at: z.string(),
  owner: z.strictObject({ pid: z.number().int().positive(), startTicks: z.number().int() }),
});

const buildIdPattern = /^b-[0-9a-f]{8}$/;
const maxFailuresKept = 20;
const recordWithinMs = 60_000;
const maxLogBytes = 4 * 1024 ** 2;

/** The folders of builds below `<stateDir>/builds/`. */
export class BuildFolders {
  readonly #root: string;

  constructor(stateDir: string) {
    this.#root = join(stateDir, "builds");
  }

  folder(buildId: string): string {
    return join(this.#root, buildId);
  }

  /** Writes down that a build begins. */
  async begin(record: Omit<BuildRecord, "schema_version" | "owner">): Promise<string> {
    const folder = this.folder(record.build_id);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const startTicks = await startTicksOf(process.pid);
    const owner = { pid: process.pid, startTicks: startTicks ?? 0 };
    const full: BuildRecord = { schema_version: 1, ...record, owner };
    await writeFileAtomic(join(folder, "build.json"), `${JSON.stringify(full, null, 2)}\n`, 0o600);
    return folder;
  }

  /** Keeps the console log of a build that failed, in place of an older one for the same key. @returns its path. */
  async keepLog(buildId: string, key: string): Promise<string> {
    const kept = join(this.#root, key);
    await rm(kept, { recursive: true, force: true });
    await mkdir(kept, { recursive: true, mode: 0o700 });
    const log = join(kept, "console.log");
    try {
      const printed = join(this.folder(buildId), "logs", "console.log");
      await copyEnd(printed, log, maxLogBytes);
    } catch (error) {
      // It failed before its VMM had printed anything, or on a disk that is full.
      if (!isErrno(error, "ENOENT") && !isErrno(error, "ENOSPC")) throw error;
    }
    await this.#forgetOldest(key);
    return log;
  }

  async remove(buildId: string): Promise<void> {
    await rm(this.folder(buildId), { recursive: true, force: true });
  }

  /** The ids of all builds that left a folder, with whether the mvm that began them still lives. */
  async list(): Promise<Map<string, boolean>> {
    const builds = new Map<string, boolean>();
    for (const name of await listFolderIfAny(this.#root)) {
      if (!buildIdPattern.test(name)) continue;
      const text = await readFileIfAny(join(this.#root, name, "build.json"));
      const isAlive =
        text === undefined ? await isNew(join(this.#root, name)) : await isOwned(text);
      builds.set(name, isAlive);
    }
    return builds;
  }

  async #forgetOldest(newest: string): Promise<void> {
    const kept = (await listFolderIfAny(this.#root)).filter((name) => /^[0-9a-f]{64}$/.test(name));
    const others = kept.filter((name) => name !== newest);
    for (const name of others.slice(0, Math.max(0, kept.length - maxFailuresKept))) {
      await rm(join(this.#root, name), { recursive: true, force: true });
    }
  }
}

/** Copies the last `maxBytes` of a file. */
async function copyEnd(source: string, target: string, maxBytes: number): Promise<void> {
  const { size } = await stat(source);
  const start = Math.max(0, size - maxBytes);
  await pipeline(createReadStream(source, { start }), createWriteStream(target, { mode: 0o600 }));
}

/** A build makes its folder and then writes its record into it: a folder without one may be a moment old. */
async function isNew(folder: string): Promise<boolean> {
  // Nothing is there when it was removed since it was listed.
  const found = await statIfAny(folder);
  return found !== undefined && Date.now() - found.mtimeMs < recordWithinMs;
}

async function isOwned(text: string): Promise<boolean> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
  const record = recordSchema.safeParse(value);
  if (!record.success) return false;
  const { pid, startTicks } = record.data.owner;
  return (await startTicksOf(pid)) === startTicks;
}

/** Start time of a process in clock ticks since boot; undefined when there is none. Source: proc(5), field 22. */
async function startTicksOf(pid: number): Promise<number | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ESRCH")) return undefined;
    throw error;
  }
}
