import { type InstanceAddress, formatInstance } from "../../domain/ids.ts";
import { type Instance, vmmOf } from "../../domain/instance.ts";
import type { Pool } from "../../domain/pool.ts";
import type { VmmProcess } from "../../ports/vmm.ts";
import type { NodeContext } from "../context.ts";
import { applyNetworks, undoStep } from "../networks.ts";
import { begin, loadInstance } from "../records.ts";
import { destroyInstance } from "./destroy.ts";
import { endVmm, livingVmms } from "./end-vmm.ts";
import { failInstance } from "./fail.ts";
import { resumeInstance, warmInstance } from "./park.ts";
import { finishStart, recordRunning } from "./start.ts";
import { stopInstance } from "./stop.ts";

/**
 * Finishes or undoes what was begun on an instance by a process that died, and makes record and VMM
 * agree: a living VMM of an instance that should have one is adopted, any other is ended. The caller
 * holds the tenant's lock, so nobody else is at work on it.
 */
export async function settleInstance(
  context: NodeContext,
  address: InstanceAddress,
): Promise<void> {
  const { pool, instance } = await loadInstance(context, address);
  const living = await livingVmms(context, address);
  const [only] = living;
  if (living.length > 1) {
    await failInstance(context, address, `${living.length} VMMs ran at once; all were ended`);
    return;
  }
  switch (instance.operation?.kind) {
    case "destroy":
      await destroyInstance(context, address, false);
      return;
    case "stop":
      await stopInstance(context, address);
      return;
    case "start":
      await settleStart(context, instance, address, only, bootedFrom(instance, pool));
      return;
    case "warm":
      if (only === undefined) break;
      await warmInstance(context, address);
      return;
    case "resume":
      if (only === undefined) break;
      await resumeInstance(context, address);
      return;
    case undefined:
      break;
  }
  await matchVmm(context, instance, address, only);
}

/** What the VMM of an interrupted start runs: another image may have become current since. */
function bootedFrom({ booted_revision }: Instance, { revisions }: Pool): string {
  return booted_revision ?? revisions[0] ?? "";
}

async function settleStart(
  context: NodeContext,
  instance: Instance,
  address: InstanceAddress,
  living: VmmProcess | undefined,
  revision: string,
): Promise<void> {
  if (living !== undefined) {
    context.onProgress(`${formatInstance(address)}: adopting the VMM that was being started`);
    await adopted(context, address, living);
    await recordRunning(context, instance, living, vmmOf(instance)?.revision ?? revision);
    await finishStart(context, address);
    return;
  }
  if (vmmOf(instance) !== undefined) {
    await failInstance(context, address, "its VMM ended while it was being started");
    return;
  }
  await context.drives.release(address);
  const undone = await begin(context, instance, "start", undoStep);
  await applyNetworks(context);
  await context.store.saveInstance({ ...undone, operation: null });
}

async function adopted(
  context: NodeContext,
  address: InstanceAddress,
  { pid }: VmmProcess,
): Promise<void> {
  const object = formatInstance(address);
  await context.audit.append(address.tenant, { type: "VmmAdopted", object, pid });
}

async function matchVmm(
  context: NodeContext,
  instance: Instance,
  address: InstanceAddress,
  living: VmmProcess | undefined,
): Promise<void> {
  const recorded = vmmOf(instance);
  if (recorded !== undefined && living === undefined) {
    await failInstance(
      context,
      address,
      "its VMM is gone; it ended by itself, was killed, or the host restarted",
    );
    return;
  }
  if (recorded === undefined) {
    const { operation, state } = instance;
    // A failure is one write: what it left on the network may still be there.
    if (living === undefined && operation === null && state.status !== "failed") return;
    await endVmm(context, address, 0);
    await context.drives.release(address);
    await applyNetworks(context);
    await context.store.saveInstance({ ...instance, operation: null });
    return;
  }
  if (living === undefined) return;
  const { state } = instance;
  if (state.status !== "running" && state.status !== "warm") return;
  const vmm = { ...state.vmm, pid: living.pid, start_ticks: living.startTicks };
  await adopted(context, address, living);
  await context.store.saveInstance({ ...instance, state: { ...state, vmm }, operation: null });
}
