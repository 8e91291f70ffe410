import { randomBytes } from "node:crypto";
import { availableParallelism } from "node:os";
import type { Output } from "./cli/output.ts";
import { type PrivilegedPorts, type WithNode, localPorts } from "./compose-privileged.ts";
import { parseInstanceId } from "./domain/ids.ts";
import { AuditFiles } from "./host/audit/audit-disk.ts";
import { AuditLog } from "./host/audit/audit-log.ts";
import { NodeSigner } from "./host/audit/node-signer.ts";
import { HostGuestLink } from "./host/guest-link.ts";
import { type Roots, instanceRunRoot } from "./host/roots.ts";
import { LinuxProduction } from "./host/setup/linux-production.ts";
import { isProduction } from "./host/setup/production.ts";
import { FileDesiredStore } from "./host/store/file-desired-store.ts";
import { FileDiskReserve } from "./host/store/file-disk-reserve.ts";
import { FileLocks } from "./host/store/file-locks.ts";
import { FileSecretStore } from "./host/store/file-secret-store.ts";
import { FileStore } from "./host/store/file-store.ts";
import { systemClock } from "./host/system-clock.ts";
import { vmUids } from "./host/vmm/uids.ts";
import type { NodeContext } from "./node/context.ts";
import { CrashPoints } from "./node/crash-points.ts";
import { NodeOperations } from "./node/operations.ts";
import { orderedLocks } from "./node/ordered-locks.ts";
import type { Locks } from "./ports/locks.ts";

const bootTimeoutMs = 180_000;
const buildTimeoutMs = 3_600_000;

/** What every program of the host is put together from. */
export interface HostParts {
  readonly roots: Roots;
  /** The folder of mvm itself, where `nix/` and `dist/guest/` are. */
  readonly projectDir: string;
  readonly version: string;
  readonly out: Output;
  readonly signal: AbortSignal;
  /** Whether this process answers others than its operator, as the daemon does. */
  readonly servesNetwork?: boolean;
}

/** The node's engine on this Linux host: all of it in this process, or through hostd where `hostdSocket` names one. */
export async function composeNode(parts: HostParts, hostdSocket?: string): Promise<NodeOperations> {
  return new NodeOperations(
    hostdSocket === undefined
      ? composeContext(parts)
      : await composeThroughHostd(parts, hostdSocket),
  );
}

/** Everything the engine works with, in this process, which is root's. */
export function composeContext(parts: HostParts): NodeContext {
  const locks = locksOf(parts);
  const points = new CrashPoints(crashAt(process.env["MVM_CRASH_AT"], parts.out));
  const withNode: WithNode = (what, work) => locks.withNode(what, work);
  return contextOf(parts, locks, points, localPorts(parts, withNode, points));
}

/** Everything the engine works with in a process without privileges: what needs root is asked of hostd. @throws HostLacksError when there is none. */
export async function composeThroughHostd(
  parts: HostParts,
  hostdSocket: string,
): Promise<NodeContext> {
  const { remotePorts } = await import("./compose-remote.ts");
  const points = new CrashPoints(crashAt(process.env["MVM_CRASH_AT"], parts.out));
  return contextOf(parts, locksOf(parts), points, await remotePorts(parts, hostdSocket, points));
}

function locksOf({ roots, signal }: HostParts): Locks {
  return orderedLocks(new FileLocks(roots, { signal }));
}

function contextOf(
  { roots, out, signal, servesNetwork }: HostParts,
  locks: Locks,
  points: CrashPoints,
  ports: PrivilegedPorts,
): NodeContext {
  const { folders, netIds, meeting, ...others } = ports;
  return {
    settings: {
      vmUidBase: vmUids.first,
      instanceRunRoot: instanceRunRoot(roots),
      bootTimeoutMs,
      buildTimeoutMs,
      production: isProduction(roots.configDir, process.env),
      startingVcpus: availableParallelism(),
      parallelActions: availableParallelism(),
    },
    ...others,
    guestLink: new HostGuestLink(ports.vmm, {}, meeting),
    store: points.store(new FileStore(roots, { folders, netIds })),
    secrets: points.secrets(new FileSecretStore(roots)),
    desired: points.desired(new FileDesiredStore(roots)),
    audit: points.audit(
      new AuditLog({
        disk: new AuditFiles(roots, folders),
        signer: new NodeSigner(roots.stateDir),
        clock: systemClock,
        by: operatorName(process.env),
      }),
    ),
    reserve: new FileDiskReserve(roots),
    production: new LinuxProduction({
      roots,
      capabilities: ports.vmm.capabilities,
      servesNetwork: servesNetwork ?? false,
    }),
    locks,
    clock: systemClock,
    newInstanceId: () => parseInstanceId(`i-${randomBytes(4).toString("hex")}`),
    newToken: () => randomBytes(32).toString("hex"),
    onProgress: (line) => out.progress(line),
    signal,
  };
}

/**
 * What to do at each crash point, for tests: nothing when the variable is not set; to say it when it is
 * `list`; else to end this process as `kill -9` does, at the first point of that name.
 */
export function crashAt(
  wanted: string | undefined,
  out: Output,
): ((point: string) => void) | undefined {
  if (wanted === undefined) return undefined;
  return (point) => {
    if (wanted === "list") out.note(`crash point ${point}`);
    if (wanted === point) process.kill(process.pid, "SIGKILL");
  };
}

/** Who runs the command: whom sudo says it runs for, else root. */
function operatorName(env: Readonly<Record<string, string | undefined>>): string {
  const user = env["SUDO_USER"];
  if (process.getuid?.() !== 0) return "agentd";
  return user === undefined || user === "root" ? "root" : `${user.slice(0, 64)} (sudo)`;
}
