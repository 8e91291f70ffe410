import type { InstanceAddress } from "../../domain/ids.ts";
import type { VmmProcess } from "../../ports/vmm.ts";
import type { NodeContext } from "../context.ts";

/** Every living VMM of an instance: one at most, unless something went very wrong. */
export async function livingVmms(
  context: NodeContext,
  address: InstanceAddress,
): Promise<VmmProcess[]> {
  const living = await context.vmm.list(context.settings.instanceRunRoot);
  return living.filter(({ id }) => id === address.instance);
}

/** Ends every VMM of an instance, recorded or not, after waiting `graceMs` for it to end by itself. */
export async function endVmm(
  context: NodeContext,
  address: InstanceAddress,
  graceMs: number,
): Promise<void> {
  for (const process of await livingVmms(context, address)) {
    await context.vmm.stop(process, graceMs);
  }
}
