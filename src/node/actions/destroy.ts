import { type InstanceAddress, formatInstance } from "../../domain/ids.ts";
import { statusOf } from "../../domain/instance.ts";
import type { NodeContext } from "../context.ts";
import { applyNetworks } from "../networks.ts";
import { begin, loadInstance } from "../records.ts";
import { quiesce } from "./stop.ts";

/** Ends an instance for good. Its data disk stays unless `wipe` is set. */
export async function destroyInstance(
  context: NodeContext,
  address: InstanceAddress,
  wipe: boolean,
): Promise<void> {
  const { pool, instance } = await loadInstance(context, address);
  context.onProgress(`${formatInstance(address)}: destroying`);
  const step = wipe || instance.operation?.step === "wipe" ? "wipe" : "keep-data";
  const current = await begin(context, instance, "destroy", step);
  // Data that is wiped needs no orderly end.
  const graceSeconds = step === "wipe" ? 0 : pool.runtime_policy.graceful_shutdown_seconds;
  await quiesce(context, current, address, graceSeconds);
  await context.drives.release(address);
  await context.drives.destroy(address, step === "wipe");
  await context.audit.append(address.tenant, {
    type: "InstanceTransition",
    object: formatInstance(address),
    change: current.changes + 1,
    from: statusOf(current),
    to: "destroyed",
  });
  await context.store.remove(address);
  await applyNetworks(context);
  context.onProgress(`${formatInstance(address)}: destroyed`);
}
