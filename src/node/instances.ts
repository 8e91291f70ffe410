import { ConflictError, OperationError } from "../domain/errors.ts";
import { type InstanceAddress, formatInstance } from "../domain/ids.ts";
import { type Instance, addressOf } from "../domain/instance.ts";
import type { Pool } from "../domain/pool.ts";
import type { QuotaExcess } from "../domain/quota.ts";
import { minimumOf } from "../planner/minimum-runtime.ts";
import { Usage } from "../planner/usage.ts";
import type { GuestExecRequest, GuestLink, GuestSession } from "../ports/guest-link.ts";
import { destroyInstance } from "./actions/destroy.ts";
import { resumeInstance, warmInstance } from "./actions/park.ts";
import { settleInstance } from "./actions/settle.ts";
import { startInstance, vmmProcessOf } from "./actions/start.ts";
import { stopInstance } from "./actions/stop.ts";
import type { NodeContext } from "./context.ts";
import { type ManualOverride, loadInstance, saveOverride } from "./records.ts";
import { refuseExcess } from "./refuse.ts";

const agentTimeoutMs = 10_000;
/** After an operator moved an instance by hand, the reconciler leaves it alone for so long. */
const manualOverrideMs = 600_000;

/** Boots an instance by hand. */
export async function operatorStart(context: NodeContext, address: InstanceAddress): Promise<void> {
  await byHand(context, address, "instance start", async (instance, override, usage, pool) => {
    if (instance.state.status === "running") return;
    if (instance.state.status === "warm") {
      throw new ConflictError(`${formatInstance(address)} is warm: it has its VMM already`, {
        hint: `let it run with: mvm instance wake ${formatInstance(address)}`,
      });
    }
    await refuse(context, address, "instance start", usage.takeStart(pool, false));
    await startInstance(context, address, false, override);
  });
}

export async function operatorStop(context: NodeContext, address: InstanceAddress): Promise<void> {
  await byHand(context, address, "instance stop", async (instance, override, _usage, pool) => {
    await noteMinimum(context, pool, instance, "stopped");
    await stopInstance(context, address, override);
  });
}

export async function operatorWarm(context: NodeContext, address: InstanceAddress): Promise<void> {
  await byHand(context, address, "instance warm", async (instance, override, usage, pool) => {
    if (instance.state.status === "running") {
      // A spare that still runs counts as warm already.
      if (!instance.spare) await refuse(context, address, "instance warm", usage.takeWarm());
      await noteMinimum(context, pool, instance, "warm");
    }
    await warmInstance(context, address, override);
  });
}

/** Lets a warm instance run again. */
export async function operatorWake(context: NodeContext, address: InstanceAddress): Promise<void> {
  await byHand(context, address, "instance wake", async (instance, override, usage) => {
    if (instance.state.status === "warm" || instance.spare) {
      await refuse(context, address, "instance wake", usage.takeResume());
    }
    await resumeInstance(context, address, override);
  });
}

export async function operatorDestroy(
  context: NodeContext,
  address: InstanceAddress,
  wipe: boolean,
): Promise<void> {
  await context.locks.withTenant(address.tenant, `destroying ${formatInstance(address)}`, () =>
    destroyInstance(context, address, wipe),
  );
}

/** Runs a command in a guest, through its agent and never by network. @returns its exit code. */
export async function execInGuest(
  context: NodeContext,
  address: InstanceAddress,
  request: GuestExecRequest,
): Promise<number> {
  const open = context.guestLink.openForCommand.bind(context.guestLink);
  return withGuest(context, address, (session) => session.exec(request), open);
}

/** The last lines that services of a guest logged. */
export async function guestLogs(
  context: NodeContext,
  address: InstanceAddress,
  service: string | undefined,
  lines: number,
): Promise<string[]> {
  return withGuest(context, address, (session) => session.logs(service, lines));
}

/** The last lines of a guest's console: there also when the guest is not. */
export async function consoleLogs(
  context: NodeContext,
  address: InstanceAddress,
  lines: number,
): Promise<string[]> {
  await loadInstance(context, address);
  return context.logs.console(address, lines);
}

async function withGuest<T>(
  context: NodeContext,
  address: InstanceAddress,
  work: (session: GuestSession) => Promise<T>,
  open: GuestLink["open"] = context.guestLink.open.bind(context.guestLink),
): Promise<T> {
  const { instance } = await loadInstance(context, address);
  if (instance.state.status !== "running") {
    throw new ConflictError(
      `${formatInstance(address)} is ${instance.state.status}: its guest answers only while it runs`,
      { hint: `see its console: mvm instance logs ${formatInstance(address)} --console` },
    );
  }
  const process = await vmmProcessOf(context, address);
  const session = await open(process, agentTimeoutMs, context.signal);
  try {
    return await work(session);
  } finally {
    session.close();
  }
}

/** Refuses what must be refused, and hands the override to the action, which writes it down with what it begins. */
type ByHand = (
  instance: Instance,
  override: ManualOverride,
  usage: Usage,
  pool: Pool,
) => Promise<void>;

/** Settles what was interrupted and does the work, with the instance marked as moved by hand. */
async function byHand(
  context: NodeContext,
  address: InstanceAddress,
  command: string,
  work: ByHand,
): Promise<void> {
  const object = formatInstance(address);
  await context.locks.withTenant(address.tenant, `${command} ${object}`, async () => {
    await settleInstance(context, address);
    const { records, pool, instance } = await loadInstance(context, address);
    if (records.tenant.destroying) {
      throw new OperationError(`tenant ${address.tenant} is being destroyed`);
    }
    const until = new Date(context.clock.nowMs() + manualOverrideMs).toISOString();
    const override = { command, until };
    await work(instance, override, new Usage(records), pool);
    const { instance: after } = await loadInstance(context, address);
    // It was as asked already: then nothing was begun that the override could be written down with.
    if (after.manual_override_until !== until) await saveOverride(context, after, override);
  });
}

async function refuse(
  context: NodeContext,
  address: InstanceAddress,
  command: string,
  excess: QuotaExcess | undefined,
): Promise<void> {
  const about = { object: formatInstance(address), command };
  await refuseExcess(context, address.tenant, about, excess);
}

/** An operator may end a minimum running or warm time early; that is written down. */
async function noteMinimum(
  context: NodeContext,
  pool: Pool,
  instance: Instance,
  to: "warm" | "stopped",
): Promise<void> {
  const { state, spare, tenant_id } = instance;
  const minimum = minimumOf(pool, state, spare);
  const nowMs = context.clock.nowMs();
  if (minimum === undefined || minimum.endMs <= nowMs || state.status === to) return;
  await context.audit.append(tenant_id, {
    type: "MinRuntimeOverridden",
    object: formatInstance(addressOf(instance)),
    to,
    ran_seconds: Math.floor((nowMs - minimum.endMs) / 1000) + minimum.seconds,
    minimum_seconds: minimum.seconds,
  });
}
