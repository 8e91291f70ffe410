import { isInstanceId, parseInstanceId } from "../domain/ids.ts";
import type { NodeContext } from "./context.ts";

/**
 * Ends VMMs whose instance has no record: nobody could find, stop or count them. With a record that
 * cannot be read on this node it may be that one's, and is left alone.
 */
export async function endOrphans(context: NodeContext): Promise<void> {
  // VMMs first: each one's record was there before it was started, so one that is missing then is gone.
  const living = await context.vmm.list(context.settings.instanceRunRoot);
  if (living.length === 0) return;
  const { tenants, corrupt } = await context.store.load();
  if (corrupt.length > 0) return;
  const known = new Set<string>(
    tenants.flatMap(({ instances }) => instances.map(({ instance_id }) => instance_id)),
  );
  for (const vmm of living) {
    if (known.has(vmm.id) || !isInstanceId(vmm.id)) continue;
    context.onProgress(`${vmm.id}: its VMM (pid ${vmm.pid}) runs and no record knows it: ended`);
    await context.vmm.stop(vmm, 0);
    await context.drives.release({ instance: parseInstanceId(vmm.id) });
  }
}
