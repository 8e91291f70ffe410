import { access, chmod, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HostLacksError } from "../../domain/errors.ts";
import type { Exec } from "../../ports/exec.ts";
import { isErrno, syncFolder, writeFileAtomic } from "../files.ts";
import { basePayload } from "./base.ts";
import { builderPayload } from "./builder.ts";
import { kernelPayload } from "./kernel.ts";
import { openclawPayload } from "./openclaw.ts";
import {
  payloadNames,
  payloadsFolder,
  readPayloadRecord,
  type PayloadManifest,
  type PayloadName,
  type PayloadRecord,
} from "./payload-record.ts";
import type { DebianPackage } from "./packages.ts";

export interface PayloadOptions {
  /** `MVM_STATE_DIR`; payloads go to `payloads/` in it. */
  readonly stateDir: string;
  /** The folder of mvm itself, where `nix/` is. */
  readonly projectDir: string;
  readonly exec: Exec;
  /** One short line for each step, for a person who waits. */
  readonly onProgress: (line: string) => void;
  readonly signal?: AbortSignal;
  /** Only these; default all. */
  readonly names?: readonly PayloadName[];
}

/** What a payload's maker gets: an empty folder to fill and one to leave things in that are not kept. */
export interface MakeContext extends PayloadOptions {
  readonly folder: string;
  readonly workFolder: string;
}

export interface MadePayload {
  readonly version: string;
  readonly files: Readonly<Record<string, string>>;
  readonly packages: readonly DebianPackage[];
}

export interface Payload {
  readonly name: PayloadName;
  /** Shown while it is made. */
  readonly title: string;
  /** Names what the payload is made from; when it changes, the payload is made anew. */
  recipe(options: PayloadOptions): Promise<string>;
  make(context: MakeContext): Promise<MadePayload>;
}

export interface PayloadStatus {
  readonly name: PayloadName;
  readonly present: boolean;
  /** The version, or undefined when it is missing. */
  readonly version: string | undefined;
}

const payloads: readonly Payload[] = [kernelPayload, basePayload, openclawPayload, builderPayload];

/**
 * Makes what builds and guests need and this machine lacks: each payload is made beside its place and
 * renamed into it whole, so that doing it again goes on where it stopped and finds nothing to do when
 * all is there. @throws OperationError, HostLacksError naming what failed.
 */
export async function preparePayloads(options: PayloadOptions): Promise<PayloadManifest> {
  if (process.arch !== "x64") {
    throw new HostLacksError(`mvm has no guest kernel and programs for ${process.arch} yet`);
  }
  const root = payloadsFolder(options.stateDir);
  await mkdir(root, { recursive: true, mode: 0o755 });
  const made: Partial<Record<PayloadName, PayloadRecord>> = {};
  for (const payload of payloads) {
    options.signal?.throwIfAborted();
    const record =
      options.names?.includes(payload.name) === false
        ? await readPayloadRecord(options.stateDir, payload.name)
        : await ensurePayload(payload, root, options);
    if (record !== undefined) made[payload.name] = record;
  }
  const manifest: PayloadManifest = { schema_version: 1, payloads: made };
  await writeFileAtomic(
    join(root, "manifest.json"),
    `${JSON.stringify(manifest, null, 2)}\n`,
    0o644,
  );
  return manifest;
}

/** What of the payloads is there, for `mvm doctor`. */
export async function payloadStatus(stateDir: string): Promise<PayloadStatus[]> {
  return Promise.all(
    payloadNames.map(async (name) => {
      const record = await readPayloadRecord(stateDir, name);
      return { name, present: record !== undefined, version: record?.version };
    }),
  );
}

async function ensurePayload(
  payload: Payload,
  root: string,
  options: PayloadOptions,
): Promise<PayloadRecord> {
  const recipe = await payload.recipe(options);
  const existing = await readPayloadRecord(options.stateDir, payload.name);
  if (existing?.recipe === recipe) {
    options.onProgress(`${payload.title}: ready (${existing.version})`);
    return existing;
  }
  options.onProgress(`${payload.title}: preparing`);
  const place = join(root, payload.name);
  const folder = join(root, `.${payload.name}.new`);
  const workFolder = join(root, `.${payload.name}.work`);
  const old = join(root, `.${payload.name}.old`);
  // What an interrupted run left behind is of no use.
  await Promise.all([folder, workFolder, old].map(removeFolder));
  await mkdir(folder);
  // Whatever the umask is: the image pipeline may run as another user.
  await chmod(folder, 0o755);
  await mkdir(workFolder, { mode: 0o755 });
  let record: PayloadRecord;
  try {
    const made = await payload.make({ ...options, folder, workFolder });
    record = {
      schema_version: 1,
      name: payload.name,
      version: made.version,
      recipe,
      files: made.files,
      packages: made.packages.map(({ name, version, sha256 }) => ({ name, version, sha256 })),
    };
    await writeFile(join(folder, "payload.json"), `${JSON.stringify(record, null, 2)}\n`);
    // A record must never be durable before what it describes.
    await options.exec.run("sync", ["-f", folder], { timeoutMs: 120_000 });
    if (await exists(place)) await rename(place, old);
    await rename(folder, place);
    await syncFolder(root);
  } finally {
    await Promise.all([folder, workFolder, old].map(removeFolder));
  }
  options.onProgress(`${payload.title}: ready (${record.version})`);
  return record;
}

function removeFolder(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true });
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}
