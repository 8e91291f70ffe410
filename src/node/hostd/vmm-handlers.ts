import { once } from "node:events";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { ConflictError, OperationError, isSystemError } from "../../domain/errors.ts";
import { type InstanceId, formatInstance, isInstanceId } from "../../domain/ids.ts";
import { instanceNetwork } from "../../domain/address-plan.ts";
import type { Machine } from "../../domain/machine.ts";
import type { HostdHandlers } from "../../ports/hostd.ts";
import type { VmmProcess } from "../../ports/vmm.ts";
import type { VmmName } from "../../protocol/hostd-objects.ts";
import { machineSpec } from "../machine-spec.ts";
import type { HostdContext } from "./context.ts";

type VmmHandlers = Pick<
  HostdHandlers,
  | "VmmStart"
  | "VmmList"
  | "VmmPause"
  | "VmmResume"
  | "VmmStop"
  | "GuestTurn"
  | "GuestChannel"
  | "ConsoleTail"
>;

/** A VMM that an earlier try began may be making its sockets yet. */
const adoptWithinMs = 20_000;
const adoptPollMs = 200;

export function vmmHandlers(context: HostdContext): VmmHandlers {
  const { vmm, turns, settings } = context;
  return {
    VmmStart: ({ machine, adopt }, call) =>
      turns.of(machine.instance.instance, async () => {
        const { instance } = machine.instance;
        const [living, ...others] = (await vmm.list(settings.instanceRunRoot)).filter(
          ({ id }) => id === instance,
        );
        if (living !== undefined) {
          if (!adopt || others.length > 0) {
            throw new ConflictError(`${instance} has a VMM already; no second one is started`);
          }
          await untilSteered(context, living, call.unwanted);
          return { vmm: nameOf(living) };
        }
        await context.requirePromises();
        await requirePort(context, machine);
        await context.drives.ensureFolders(machine.instance);
        const spec = machineSpec(machine, {
          vmUidBase: settings.vmUidBase,
          folders: context.drives.folders(machine.instance),
          image: await context.images.files(machine.revision),
          drives: context.drives.paths(machine.instance),
        });
        // Not ended when agentd dies: the next one finds it, and adopts it.
        return { vmm: nameOf(await vmm.start(spec, call.cancelled)) };
      }),
    VmmList: async () => ({ vmms: (await livingVmms(context)).map(nameOf) }),
    VmmPause: ({ vmm: name }) =>
      turns.of(name.id, async () => {
        await vmm.pause(await requireVmm(context, name));
        return {};
      }),
    VmmResume: ({ vmm: name }) =>
      turns.of(name.id, async () => {
        await vmm.resume(await requireVmm(context, name));
        return {};
      }),
    VmmStop: ({ vmm: name, graceMs }) =>
      turns.of(name.id, async () => {
        const process = await findVmm(context, name);
        // One that is gone may have words that its keeper still writes.
        await vmm.stop(process ?? processOf(context, name), process === undefined ? 0 : graceMs);
        return {};
      }),
    GuestTurn: async ({ vmm: name, waitMs }, call) => {
      const process = await requireVmm(context, name);
      const release = await context.guestTurn(process, waitMs, call.unwanted);
      call.afterAnswer(async () => {
        if (!call.unwanted.aborted) await once(call.unwanted, "abort");
        await release();
      });
      return {};
    },
    GuestChannel: async ({ vmm: name }, call) => {
      const opening = new AbortController();
      const giveUp = (): void => opening.abort();
      call.unwanted.addEventListener("abort", giveUp, { once: true });
      const channel = await vmm.openChannel(await requireVmm(context, name), opening.signal);
      // From here on it ends as streams end, and not as a call that was interrupted.
      call.unwanted.removeEventListener("abort", giveUp);
      call.afterAnswer(async (connection) => {
        try {
          await Promise.all([pipeline(connection, channel), pipeline(channel, connection)]);
        } catch (error) {
          // Either side may end at any time; the other learns of it by the end of its own.
          if (!isSystemError(error) && !isStreamEnd(error)) throw error;
        } finally {
          channel.destroy();
          connection.destroy();
        }
      });
      return {};
    },
    ConsoleTail: async ({ instance, lines }) => {
      if (!(await context.drives.hasFolders(instance))) return { lines: [] };
      return { lines: await context.logs.console(instance, lines) };
    },
  };
}

/** VMMs of instances that live, whoever started them. */
export async function livingVmms({ vmm, settings }: HostdContext): Promise<VmmProcess[]> {
  return (await vmm.list(settings.instanceRunRoot)).filter(({ id }) => isInstanceId(id));
}

function nameOf({ id, pid, startTicks }: VmmProcess): VmmName {
  return { id: id as InstanceId, pid, startTicks };
}

/** What agentd says counts as a name only: the process is one that hostd finds itself. */
async function findVmm(context: HostdContext, name: VmmName): Promise<VmmProcess | undefined> {
  const { runDir } = processOf(context, name);
  return (await livingVmms(context)).find(
    (living) =>
      living.id === name.id &&
      living.pid === name.pid &&
      living.startTicks === name.startTicks &&
      living.runDir === runDir,
  );
}

async function requireVmm(context: HostdContext, name: VmmName): Promise<VmmProcess> {
  const found = await findVmm(context, name);
  if (found !== undefined) return found;
  throw new OperationError(`VMM ${name.id} is gone`);
}

/** A process of that name; one that is none of mvm's VMMs has no start time that fits, and is never signalled. */
function processOf({ settings }: HostdContext, name: VmmName): VmmProcess {
  return { ...name, pid: 0, startTicks: -1, runDir: `${settings.instanceRunRoot}/${name.id}` };
}

/** Whatever agentd asks, a VMM gets its own instance's TAP and no other, behind rules that are in place. */
async function requirePort(context: HostdContext, machine: Machine): Promise<void> {
  const { tap } = instanceNetwork(machine.netId, machine.offset);
  const owner = formatInstance(machine.instance);
  for (const { network, ports } of await context.applied()) {
    if (network.netId !== machine.netId) continue;
    if (ports.some((port) => port.tap === tap && port.owner === owner)) return;
  }
  throw new ConflictError(`${owner} has no port ${tap} on its tenant's network`, {
    hint: "its network is applied first: mvm net repair",
  });
}

/** Waits until a VMM that was begun runs and can be steered. */
async function untilSteered(
  context: HostdContext,
  process: VmmProcess,
  signal: AbortSignal,
): Promise<void> {
  const deadlineMs = performance.now() + adoptWithinMs;
  for (;;) {
    try {
      await context.vmm.resume(process);
      return;
    } catch (error) {
      if (!(error instanceof OperationError) || performance.now() >= deadlineMs) throw error;
    }
    await delay(adoptPollMs, undefined, { signal });
  }
}

/** How a pipeline says that one of its streams was closed before its end. */
function isStreamEnd(error: unknown): boolean {
  return (
    error instanceof Error &&
    ["ERR_STREAM_PREMATURE_CLOSE", "ABORT_ERR", "ERR_STREAM_DESTROYED"].includes(
      (error as NodeJS.ErrnoException).code ?? "",
    )
  );
}
