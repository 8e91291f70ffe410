import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type HostParts, crashAt } from "./compose-node.ts";
import { appliedNetworksPath, localPorts } from "./compose-privileged.ts";
import { HostLacksError } from "./domain/errors.ts";
import { requireKept } from "./domain/production.ts";
import { acquireFileLock } from "./host/file-lock.ts";
import { requireFlake } from "./host/hostd/allowed-flakes.ts";
import { HostdListener } from "./host/hostd/listener.ts";
import { hostdSocketPath, prepareRunFolder } from "./host/hostd/run-folder.ts";
import { AppliedNetworks } from "./host/net/applied-networks.ts";
import { instanceRunRoot } from "./host/roots.ts";
import { LocalInventory } from "./host/setup/local-inventory.ts";
import { LinuxProduction } from "./host/setup/linux-production.ts";
import { isProduction } from "./host/setup/production.ts";
import { stateOwner } from "./host/state-owner.ts";
import { peerCredentials } from "./host/syscalls.ts";
import { systemClock } from "./host/system-clock.ts";
import { vmUids } from "./host/vmm/uids.ts";
import { CrashPoints } from "./node/crash-points.ts";
import { hostdHandlers } from "./node/hostd/handlers.ts";
import { networkTurn } from "./node/hostd/network-handlers.ts";
import { Turns } from "./node/hostd/turns.ts";

/** A hostd that was told to end may be at work yet. */
const predecessorMs = 60_000;
/** Running operations may end; systemd waits a little longer before it kills. */
const graceMs = 60_000;

/** Does for agentd what needs root, until the signal. @throws HostLacksError while the records are root's; ConflictError when there is a hostd. */
export async function serveHostd(parts: HostParts): Promise<void> {
  const { roots, out, signal } = parts;
  const owner = stateOwner(roots);
  if (owner === undefined) {
    throw new HostLacksError(`the records in ${roots.stateDir} are root's, and no agentd's`, {
      hint: "give them to the user of agentd: mvm add host",
    });
  }
  // Nobody else adds to the state folder itself: what hostd makes there is its own.
  await mkdir(roots.stateDir, { recursive: true, mode: 0o755 });
  const lock = await acquireFileLock(join(roots.stateDir, "hostd.lock"), {
    waitMs: predecessorMs,
    label: "hostd",
    signal,
  });
  try {
    await prepareRunFolder(roots, owner);
    const listener = await HostdListener.open({
      path: hostdSocketPath(roots),
      gid: owner.gid,
      agentUid: owner.uid,
      handlers: handlersOf(parts),
      peerOf: peerCredentials,
      onNote: (line) => out.note(`mvm hostd: ${line}`),
    });
    out.note(`mvm hostd: listening at ${hostdSocketPath(roots)}`);
    await aborted(signal);
    await listener.close(graceMs);
  } finally {
    await lock.release();
  }
}

function handlersOf(parts: HostParts): ReturnType<typeof hostdHandlers> {
  const { roots, out } = parts;
  const turns = new Turns();
  const points = new CrashPoints(crashAt(process.env["MVM_CRASH_AT"], out));
  const ports = localPorts(parts, (_what, work) => turns.of(networkTurn, work), points);
  const production = new LinuxProduction({ roots, capabilities: ports.vmm.capabilities });
  const applied = new AppliedNetworks(appliedNetworksPath(parts));
  return hostdHandlers({
    ...ports,
    settings: { vmUidBase: vmUids.first, instanceRunRoot: instanceRunRoot(roots) },
    inventory: new LocalInventory(roots, ports.vmm),
    applied: () => applied.load(),
    requireFlake: (flakeRef) => requireFlake(roots, flakeRef),
    requirePromises: async () => {
      if (!isProduction(roots.configDir, process.env)) return;
      requireKept(await production.look(), systemClock.nowMs());
    },
    guestTurn: async (process, waitMs, unwanted) => {
      const held = await ports.meeting.turn(process, waitMs, unwanted);
      return () => held.release();
    },
    turns,
  });
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  else signal.addEventListener("abort", () => resolve(), { once: true });
  return promise;
}
