import { join } from "node:path";
import { readFileIfAny } from "../files.ts";

/** Whether the host's cgroup v2 hierarchy has these controllers; see cgroups(7). */
export async function hasCgroupControllers(
  kernelRoot: string,
  wanted: readonly string[],
): Promise<boolean> {
  const text = await readFileIfAny(join(kernelRoot, "sys/fs/cgroup/cgroup.controllers"));
  const controllers = new Set(text?.trim().split(/\s+/));
  return wanted.every((name) => controllers.has(name));
}
