import { describeError } from "../../domain/errors.ts";
import { type InstanceAddress, formatInstance } from "../../domain/ids.ts";
import { type Instance, statusOf } from "../../domain/instance.ts";
import { assertTransition } from "../../domain/lifecycle.ts";
import type { NodeContext } from "../context.ts";
import { applyNetworks } from "../networks.ts";
import { type ManualOverride, atStep, begin, loadInstance } from "../records.ts";
import { transition } from "../transition.ts";
import { endVmm, livingVmms } from "./end-vmm.ts";

const agentTimeoutMs = 5000;

/** Ends an instance's guest in good order where it answers, by force where it does not. Its data disk stays. */
export async function stopInstance(
  context: NodeContext,
  address: InstanceAddress,
  override?: ManualOverride,
): Promise<void> {
  const { pool, instance } = await loadInstance(context, address);
  if (statusOf(instance) === "stopped" && instance.operation === null) return;
  if (instance.operation?.kind !== "stop") {
    assertTransition(formatInstance(address), statusOf(instance), "stopped");
  }
  context.onProgress(`${formatInstance(address)}: stopping`);
  const current = await begin(context, instance, "stop", "guest", override);
  await quiesce(context, current, address, pool.runtime_policy.graceful_shutdown_seconds);
  await context.drives.release(address);
  const stopped: Instance = {
    ...current,
    state: { status: "stopped" },
    // It is over when the TAP is gone too: whoever comes next asks no more of one that was left in order.
    operation: atStep(context, current, "stop", "network"),
    spare: false,
    failures: 0,
  };
  // One that was stopped before its TAP was gone is stopped already.
  const recorded =
    statusOf(current) === "stopped" ? stopped : await transition(context, current, stopped);
  await applyNetworks(context);
  await context.store.saveInstance({ ...recorded, operation: null });
  context.onProgress(`${formatInstance(address)}: stopped`);
}

/** Asks the guest to power off, waits for that, and ends its VMM whatever happened; with no grace it ends the VMM at once. */
export async function quiesce(
  context: NodeContext,
  instance: Instance,
  address: InstanceAddress,
  graceSeconds: number,
): Promise<void> {
  const living = graceSeconds === 0 ? [] : await livingVmms(context, address);
  for (const process of living) {
    let graceMs = 0;
    try {
      // A paused guest cannot write its data out: it runs once more to end well.
      if (statusOf(instance) === "warm") await context.vmm.resume(process);
      const session = await context.guestLink.open(process, agentTimeoutMs, context.signal);
      try {
        await session.shutdown(graceSeconds);
        graceMs = graceSeconds * 1000 + agentTimeoutMs;
      } finally {
        session.close();
      }
    } catch (error) {
      if (context.signal.aborted) throw error;
      context.onProgress(
        `${formatInstance(address)}: its guest does not answer and is ended by force: ${describeError(error)}`,
      );
    }
    await context.vmm.stop(process, graceMs);
  }
  await endVmm(context, address, 0);
}
