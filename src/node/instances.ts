import { ConflictError, NotFoundError, OperationError } from "../domain/errors.ts";
import { type InstanceAddress, type InstanceId, formatInstance } from "../domain/ids.ts";
import { type Instance, addressOf } from "../domain/instance.ts";
import { type QuotaExcess, QuotaError } from "../domain/quota.ts";
import { Usage } from "../planner/usage.ts";
import type { GuestExecRequest, GuestSession } from "../ports/guest-link.ts";
import { destroyInstance } from "./actions/destroy.ts";
import { resumeInstance, warmInstance } from "./actions/park.ts";
import { settleInstance } from "./actions/settle.ts";
import { startInstance, vmmProcessOf } from "./actions/start.ts";
import { stopInstance } from "./actions/stop.ts";
import { type NodeContext, timestamp } from "./context.ts";
import { applyNetworks } from "./networks.ts";
import { loadInstance } from "./records.ts";

const agentTimeoutMs = 10_000;
/** After an operator moved an instance by hand, the reconciler leaves it alone for so long. */
const manualOverrideMs = 600_000;

/** Finds an instance by its id alone: ids are unique on the node. @throws NotFoundError */
export async function locateInstance(
  context: NodeContext,
  id: InstanceId,
): Promise<InstanceAddress> {
  const { tenants } = await context.store.load();
  const found = tenants
    .flatMap(({ instances }) => instances)
    .find(({ instance_id }) => instance_id === id);
  if (found !== undefined) return addressOf(found);
  throw new NotFoundError(`there is no instance ${id}`, { hint: "see: mvm instance list" });
}

/** Boots an instance by hand. */
export async function operatorStart(context: NodeContext, address: InstanceAddress): Promise<void> {
  await byHand(context, address, "starting", async (instance, usage, pool) => {
    if (instance.state.status === "running") return;
    if (instance.state.status === "warm") {
      throw new ConflictError(`${formatInstance(address)} is warm: it has its VMM already`, {
        hint: `let it run with: mvm instance wake ${formatInstance(address)}`,
      });
    }
    // A first start may be the tenant's first need of its network.
    await applyNetworks(context);
    refuseExcess(address, usage.takeStart(pool, false));
    await startInstance(context, address, false);
  });
}

export async function operatorStop(context: NodeContext, address: InstanceAddress): Promise<void> {
  await byHand(context, address, "stopping", () => stopInstance(context, address));
}

export async function operatorWarm(context: NodeContext, address: InstanceAddress): Promise<void> {
  await byHand(context, address, "warming", async (instance, usage) => {
    if (instance.state.status === "running") refuseExcess(address, usage.takeWarm());
    await warmInstance(context, address);
  });
}

/** Lets a warm instance run again. */
export async function operatorWake(context: NodeContext, address: InstanceAddress): Promise<void> {
  await byHand(context, address, "waking", async (instance, usage) => {
    if (instance.state.status === "warm") refuseExcess(address, usage.takeResume());
    await resumeInstance(context, address);
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
  return withGuest(context, address, (session) => session.exec(request));
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
  return context.logs.tail(`${context.drives.folders(address).logDir}/console.log`, lines);
}

async function withGuest<T>(
  context: NodeContext,
  address: InstanceAddress,
  work: (session: GuestSession) => Promise<T>,
): Promise<T> {
  const { instance } = await loadInstance(context, address);
  if (instance.state.status !== "running") {
    throw new ConflictError(
      `${formatInstance(address)} is ${instance.state.status}: its guest answers only while it runs`,
      { hint: `see its console: mvm instance logs ${formatInstance(address)} --console` },
    );
  }
  const process = await vmmProcessOf(context, address);
  const session = await context.guestLink.open(process, agentTimeoutMs, context.signal);
  try {
    return await work(session);
  } finally {
    session.close();
  }
}

type ByHand = (
  instance: Instance,
  usage: Usage,
  pool: Parameters<Usage["takeStart"]>[0],
) => Promise<void>;

/** Settles what was interrupted, does the work, and marks the instance as moved by hand. */
async function byHand(
  context: NodeContext,
  address: InstanceAddress,
  what: string,
  work: ByHand,
): Promise<void> {
  await context.locks.withTenant(address.tenant, `${what} ${formatInstance(address)}`, async () => {
    await settleInstance(context, address);
    const { records, pool, instance } = await loadInstance(context, address);
    if (records.tenant.destroying) {
      throw new OperationError(`tenant ${address.tenant} is being destroyed`);
    }
    await work(instance, new Usage(records), pool);
    const { instance: after } = await loadInstance(context, address);
    const until = Date.parse(timestamp(context)) + manualOverrideMs;
    await context.store.saveInstance({
      ...after,
      manual_override_until: new Date(until).toISOString(),
    });
  });
}

function refuseExcess(address: InstanceAddress, excess: QuotaExcess | undefined): void {
  if (excess !== undefined) throw new QuotaError(address.tenant, excess);
}
