import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { OperationError } from "../../domain/errors.ts";
import type { Exec } from "../../ports/exec.ts";
import { sha256OfFile } from "../files.ts";
import { networkEnvironment } from "./packages.ts";

/** `nix/payloads/pins.json`: the versions and contents this release of mvm was tested with. */
export interface Pins {
  readonly node: { readonly version: string; readonly sha256: string };
  readonly openclaw: { readonly version: string; readonly sha256: string };
}

const pin = z.strictObject({ version: z.string(), sha256: z.string().regex(/^[0-9a-f]{64}$/) });
const pinsSchema: z.ZodType<Pins> = z.strictObject({ node: pin, openclaw: pin });

const installTimeoutMs = 20 * 60_000;

export async function readPins(projectDir: string): Promise<Pins> {
  const text = await readFile(join(projectDir, "nix", "payloads", "pins.json"), "utf8");
  return pinsSchema.parse(JSON.parse(text));
}

/** A name for the lock file of an npm payload, for the payload's recipe. */
export async function lockDigest(projectDir: string, name: "node" | "openclaw"): Promise<string> {
  const lock = await readFile(join(projectDir, "nix", "payloads", name, "package-lock.json"));
  return createHash("sha256").update(lock).digest("hex");
}

/** @throws OperationError when a file is not what this release of mvm was tested with. */
export async function checkPin(
  path: string,
  what: string,
  expected: { readonly version: string; readonly sha256: string },
  signal?: AbortSignal,
): Promise<void> {
  const found = await sha256OfFile(path, signal);
  if (found === expected.sha256) return;
  throw new OperationError(
    `${what} ${expected.version} is not what mvm was tested with: its SHA-256 is ${found} and should be ${expected.sha256}`,
    { hint: "check the package registry this machine uses; nothing of it was kept" },
  );
}

/** Installs what a committed lock file names, without running any script of the packages. */
export async function installFromLock(
  exec: Exec,
  folder: string,
  signal?: AbortSignal,
): Promise<void> {
  await exec.run(
    "npm",
    [
      "ci",
      "--ignore-scripts",
      "--omit=dev",
      "--no-audit",
      "--no-fund",
      "--loglevel=error",
      "--install-strategy=hoisted",
    ],
    {
      timeoutMs: installTimeoutMs,
      cwd: folder,
      env: networkEnvironment(),
      ...(signal === undefined ? {} : { signal }),
    },
  );
}
