import { join } from "node:path";
import * as z from "zod";
import { HostLacksError, OperationError } from "../../domain/errors.ts";
import { readFileIfAny, writeFileAtomic } from "../files.ts";
import { type QemuPlatform, qemuPlatformSchema } from "../vmm/qemu/platform.ts";

const hostFile = z.strictObject({
  schema_version: z.literal(1),
  qemu: qemuPlatformSchema,
  probed_at: z.iso.datetime(),
});

function path(stateDir: string): string {
  return join(stateDir, "host.json");
}

/**
 * How guests run here, as the probe found, or undefined when it was not made.
 * @throws OperationError when what was found cannot be read any more.
 */
export async function readPlatform(stateDir: string): Promise<QemuPlatform | undefined> {
  const text = await readFileIfAny(path(stateDir));
  if (text === undefined) return undefined;
  try {
    return hostFile.parse(JSON.parse(text)).qemu;
  } catch (error) {
    if (!(error instanceof SyntaxError) && !(error instanceof z.ZodError)) throw error;
    throw new OperationError(`${path(stateDir)} is corrupt`, {
      hint: "run `mvm add host`",
      cause: error,
    });
  }
}

/** As `readPlatform`, but what cannot be read counts as not found out yet. */
export async function readPlatformIfWhole(stateDir: string): Promise<QemuPlatform | undefined> {
  try {
    return await readPlatform(stateDir);
  } catch (error) {
    if (error instanceof OperationError) return undefined;
    throw error;
  }
}

/** @throws HostLacksError before `mvm add host`; OperationError as `readPlatform`. */
export async function requirePlatform(stateDir: string): Promise<QemuPlatform> {
  const platform = await readPlatform(stateDir);
  if (platform !== undefined) return platform;
  throw new HostLacksError("this machine is not prepared to run microVMs", {
    hint: "run `mvm add host`",
  });
}

export async function writePlatform(
  stateDir: string,
  qemu: QemuPlatform,
  nowMs: number,
): Promise<void> {
  const content = { schema_version: 1, qemu, probed_at: new Date(nowMs).toISOString() };
  await writeFileAtomic(path(stateDir), `${JSON.stringify(content, undefined, 2)}\n`, 0o644);
}
