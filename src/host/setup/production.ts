import { existsSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod/mini";
import { HostLacksError, OperationError, UsageError } from "../../domain/errors.ts";
import { readFileIfAny, writeFileAtomic } from "../files.ts";

const recordSchema = z.strictObject({
  schema_version: z.literal(1),
  production: z.boolean(),
});

/** What is known of this host when production is asked for. */
export interface ProductionFacts {
  readonly hasAuthority: boolean;
  readonly trustedKeys: number;
  /** Swap areas that are not encrypted, by device; none where the operator waived that promise. */
  readonly plainSwap: readonly string[];
}

/** Whether this host can be a node of production at all. @throws UsageError or HostLacksError */
export function requireProduction(facts: ProductionFacts): void {
  if (!facts.hasAuthority) {
    throw new UsageError("production needs the CA of a coordinator", {
      hint: "give it with --ca ca.crt: a development CA is no identity for production",
    });
  }
  if (facts.trustedKeys === 0) {
    throw new UsageError("production needs a coordinator's signing key", {
      hint: "give it with --signing-key coordinator.pub",
    });
  }
  if (facts.plainSwap.length > 0) {
    throw new HostLacksError(
      `production refuses plain swap, since memory holds secrets: ${facts.plainSwap.join(", ")}`,
      {
        hint: "swapoff -a, and take it out of /etc/fstab; or waive no-plain-swap (docs/production.md)",
      },
    );
  }
}

/** Writes down that this is a node of production: every command is strict from then on. */
export async function recordProduction(configDir: string): Promise<void> {
  await mkdir(configDir, { recursive: true, mode: 0o755 });
  const record = { schema_version: 1, production: true };
  await writeFileAtomic(path(configDir), `${JSON.stringify(record, undefined, 2)}\n`, 0o644);
}

/** Whether this is a node of production, by its record or by MVM_PRODUCTION=1. @throws OperationError when the record cannot be read: nobody would know. */
export function isProduction(
  configDir: string,
  env: Readonly<Record<string, string | undefined>>,
): boolean {
  if (env["MVM_PRODUCTION"] === "1") return true;
  const file = path(configDir);
  if (!existsSync(file)) return false;
  const text = readFileSync(file, "utf8");
  try {
    return recordSchema.parse(JSON.parse(text)).production;
  } catch (error) {
    if (!(error instanceof SyntaxError) && !(error instanceof z.core.$ZodError)) throw error;
    throw new OperationError(`${path(configDir)} is corrupt`, {
      hint: "restore it, or make it anew: mvm add host --production",
      cause: error,
    });
  }
}

/** Swap in use that is neither in memory nor on a dm-crypt device, by device; see proc_swaps(5). `kernelRoot` is `/` but in tests. */
export async function plainSwap(kernelRoot: string): Promise<string[]> {
  return ((await readFileIfAny(join(kernelRoot, "proc/swaps"))) ?? "")
    .trim()
    .split("\n")
    .slice(1)
    .map((line) => line.split(/\s+/)[0] ?? "")
    .filter((device) => device !== "" && !/^\/dev\/(?:zram|mapper\/|dm-)/.test(device));
}

function path(configDir: string): string {
  return join(configDir, "node.json");
}
