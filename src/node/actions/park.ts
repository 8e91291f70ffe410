import { type InstanceAddress, formatInstance } from "../../domain/ids.ts";
import { assertTransition } from "../../domain/lifecycle.ts";
import { type NodeContext, timestamp } from "../context.ts";
import { applyNetworks } from "../networks.ts";
import { type ManualOverride, begin, loadInstance } from "../records.ts";
import { transition } from "../transition.ts";
import { vmmProcessOf } from "./start.ts";

/** Pauses the vCPUs of a running instance; its memory stays. */
export async function warmInstance(
  context: NodeContext,
  address: InstanceAddress,
  override?: ManualOverride,
): Promise<void> {
  const { instance } = await loadInstance(context, address);
  if (instance.state.status === "warm" && instance.operation === null) return;
  if (instance.state.status !== "warm") {
    assertTransition(formatInstance(address), instance.state.status, "warm");
  }
  const process = await vmmProcessOf(context, address);
  const current = await begin(context, instance, "warm", "pause", override);
  await context.vmm.pause(process);
  const { state } = current;
  if (state.status === "running") {
    await transition(context, current, {
      ...current,
      state: { status: "warm", since: timestamp(context), vmm: state.vmm },
      operation: null,
      spare: false,
    });
  } else await context.store.saveInstance({ ...current, operation: null });
  await applyNetworks(context);
  context.onProgress(`${formatInstance(address)}: warm`);
}

/** Lets a warm instance run; a spare that still runs is put to service as it is. */
export async function resumeInstance(
  context: NodeContext,
  address: InstanceAddress,
  override?: ManualOverride,
): Promise<void> {
  const { instance } = await loadInstance(context, address);
  const { state } = instance;
  if (state.status === "running" && instance.operation === null && !instance.spare) return;
  if (state.status !== "running") {
    assertTransition(formatInstance(address), state.status, "running");
  }
  const process = await vmmProcessOf(context, address);
  const current = await begin(context, instance, "resume", "vcpus", override);
  await context.vmm.resume(process);
  const next = current.state;
  if (next.status === "warm") {
    await transition(context, current, {
      ...current,
      state: { status: "running", since: timestamp(context), vmm: next.vmm },
      operation: null,
      spare: false,
    });
  } else await context.store.saveInstance({ ...current, operation: null, spare: false });
  await applyNetworks(context);
  context.onProgress(`${formatInstance(address)}: running`);
}
