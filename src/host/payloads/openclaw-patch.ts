import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OperationError } from "../../domain/errors.ts";

/** One change of the program's text; `files` are matched below the package's `dist`. */
interface Patch {
  readonly files: RegExp;
  readonly expectedFiles: number;
  /** Its group is kept; what follows it in the match becomes `value`. */
  readonly find: RegExp;
  readonly value: string;
}

/**
 * OpenClaw gives the thread that keeps its database lease 5 s to start and 1 s to answer, and refuses to
 * start when that is missed: "state lease heartbeat did not become ready". Under software emulation, with
 * several guests booting at once, a thread takes longer than that. Only the waiting gets longer; the lease
 * itself and its rules stay as they are.
 */
const patches: readonly Patch[] = [
  {
    files:
      /^(?:openclaw-state-lease-heartbeat-shared-.*\.mjs|worker\/(?:worker|sqlite-store\.worker)\.mjs|state\/openclaw-state-lease-heartbeat\.worker\.js)$/,
    expectedFiles: 4,
    find: /(LEASE_HEARTBEAT_START_TIMEOUT_MS ?= ?)5e3/,
    value: "6e4",
  },
  {
    files: /^openclaw-state-lease-heartbeat-(?!shared-).*\.mjs$/,
    expectedFiles: 1,
    find: /(const WORKER_RESPONSE_TIMEOUT_MS = )1e3/,
    value: "15e3",
  },
];

/** Changes with the patches, for the payload's recipe. */
export const patchVersion = "1";

/** @throws OperationError when the program's text is not what the patches were made for. */
export async function patchOpenclaw(packageFolder: string): Promise<void> {
  const dist = join(packageFolder, "dist");
  const names = [
    ...(await readdir(dist)),
    ...(await readdir(join(dist, "worker"))).map((name) => `worker/${name}`),
    ...(await readdir(join(dist, "state"))).map((name) => `state/${name}`),
  ];
  for (const patch of patches) {
    const matching = names.filter((name) => patch.files.test(name));
    if (matching.length !== patch.expectedFiles) throw notAsExpected(patch.files.source);
    for (const name of matching) {
      const path = join(dist, name);
      // Bytes, since a bundle may hold some that are no UTF-8.
      const text = await readFile(path, "latin1");
      if (!patch.find.test(text)) throw notAsExpected(name);
      const patched = text.replace(patch.find, (_match, head: string) => head + patch.value);
      await writeFile(path, patched, "latin1");
    }
  }
}

function notAsExpected(what: string): OperationError {
  return new OperationError(`this OpenClaw is not the one mvm's patches are for: ${what}`, {
    hint: "a new version of OpenClaw needs src/host/payloads/openclaw-patch.ts looked at",
  });
}
