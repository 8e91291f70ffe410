import { join } from "node:path";
import { z } from "zod";
import { HostLacksError } from "../../domain/errors.ts";
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

/** How guests run here, as the probe found, or undefined when it was not made. */
export async function readPlatform(stateDir: string): Promise<QemuPlatform | undefined> {
  const text = await readFileIfAny(path(stateDir));
  return text === undefined ? undefined : hostFile.parse(JSON.parse(text)).qemu;
}

/** @throws HostLacksError before `mvm add host`. */
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
