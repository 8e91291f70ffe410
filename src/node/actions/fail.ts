import { type InstanceAddress, formatInstance } from "../../domain/ids.ts";
import { type Instance, vmmOf } from "../../domain/instance.ts";
import { backoffEndsMs } from "../../planner/backoff.ts";
import { type NodeContext, timestamp } from "../context.ts";
import { applyNetworks } from "../networks.ts";
import { loadInstance } from "../records.ts";
import { transition } from "../transition.ts";
import { endVmm } from "./end-vmm.ts";

const keptConsoleLines = 20;
/** One that ran this long before it failed starts a new row of failures. */
const steadyMs = 600_000;

/** Ends what is left of an instance's VMM and records that and why it failed, with the guest's last words. */
export async function failInstance(
  context: NodeContext,
  address: InstanceAddress,
  cause: string,
): Promise<void> {
  await endVmm(context, address, 0);
  // Before the record says so: what a failed instance still had would have no owner.
  await context.drives.release(address);
  const { instance } = await loadInstance(context, address);
  const ranMs = context.clock.nowMs() - Date.parse(vmmOf(instance)?.started_at ?? "");
  const failures = ranMs > steadyMs ? 1 : instance.failures + 1;
  const failed: Instance = {
    ...instance,
    state: {
      status: "failed",
      since: timestamp(context),
      cause,
      console: await context.logs.console(address, keptConsoleLines),
    },
    operation: null,
    failures,
  };
  const retry_at = new Date(backoffEndsMs(context.clock.nowMs(), failures)).toISOString();
  await transition(context, instance, failed, { cause, failures, retry_at });
  await applyNetworks(context);
  context.onProgress(`${formatInstance(address)}: FAILED: ${cause}`);
}
