import { randomBytes } from "node:crypto";
import { availableParallelism } from "node:os";
import type { Output } from "./cli/output.ts";
import { parseInstanceId } from "./domain/ids.ts";
import { AuditFiles } from "./host/audit/audit-disk.ts";
import { AuditLog } from "./host/audit/audit-log.ts";
import { NodeSigner } from "./host/audit/node-signer.ts";
import { HostDrives } from "./host/drives/host-drives.ts";
import { HostExec } from "./host/exec.ts";
import { HostGuestLink } from "./host/guest-link.ts";
import { HostMeters } from "./host/host-meters.ts";
import { HttpsDownload } from "./host/https-download.ts";
import { lastLogLines } from "./host/log-files.ts";
import { LinuxBuilderNetwork } from "./host/net/builder-network.ts";
import { LinuxNetwork } from "./host/net/linux-network.ts";
import { type Roots, instanceRunRoot } from "./host/roots.ts";
import { requirePlatform } from "./host/setup/platform-file.ts";
import { isProduction, unbuiltPromises } from "./host/setup/production.ts";
import { FileDesiredStore } from "./host/store/file-desired-store.ts";
import { FileDiskReserve } from "./host/store/file-disk-reserve.ts";
import { FileImages } from "./host/store/file-images.ts";
import { FileLocks } from "./host/store/file-locks.ts";
import { FileSecretStore } from "./host/store/file-secret-store.ts";
import { FileTenantKeys } from "./host/store/file-tenant-keys.ts";
import { FileStore } from "./host/store/file-store.ts";
import { systemClock } from "./host/system-clock.ts";
import { QemuVmm } from "./host/vmm/qemu/qemu-vmm.ts";
import { vmUids } from "./host/vmm/uids.ts";
import { MicrovmImageBuilder } from "./image/microvm-image-builder.ts";
import type { NodeContext } from "./node/context.ts";
import { CrashPoints } from "./node/crash-points.ts";
import { NodeOperations } from "./node/operations.ts";
import { orderedLocks } from "./node/ordered-locks.ts";

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
}

/** The node's engine on this Linux host. */
export function composeNode(parts: HostParts): NodeOperations {
  return new NodeOperations(composeContext(parts));
}

/** Everything the engine works with, for who needs the adapters themselves. */
export function composeContext({
  roots,
  projectDir,
  version,
  out,
  signal,
}: HostParts): NodeContext {
  const production = isProduction(roots.configDir, process.env);
  const points = new CrashPoints(crashAt(process.env["MVM_CRASH_AT"], out));
  const locks = orderedLocks(new FileLocks(roots, { signal }));
  const exec = new HostExec();
  const vmm = points.vmm(new QemuVmm(() => requirePlatform(roots.stateDir)));
  return {
    settings: {
      vmUidBase: vmUids.first,
      instanceRunRoot: instanceRunRoot(roots),
      bootTimeoutMs,
      buildTimeoutMs,
      production,
      unkeptPromises: production ? unbuiltPromises : [],
      startingVcpus: availableParallelism(),
      parallelActions: availableParallelism(),
    },
    store: points.store(new FileStore(roots)),
    secrets: points.secrets(new FileSecretStore(roots)),
    desired: points.desired(new FileDesiredStore(roots)),
    audit: points.audit(
      new AuditLog({
        disk: new AuditFiles(roots),
        signer: new NodeSigner(roots.stateDir),
        clock: systemClock,
        by: operatorName(process.env),
      }),
    ),
    reserve: new FileDiskReserve(roots),
    keys: points.keys(new FileTenantKeys(roots)),
    images: new FileImages(roots),
    builder: points.builder(
      new MicrovmImageBuilder({
        stateDir: roots.stateDir,
        runDir: roots.runDir,
        projectDir,
        exec,
        vmm,
        uid: vmUids.builder,
        builtBy: `mvm ${version}`,
        download: new HttpsDownload(),
        network: new LinuxBuilderNetwork({
          exec,
          vmUid: vmUids.builder,
          stateDir: roots.stateDir,
          withNode: (what, work) => locks.withNode(what, work),
        }),
        now: () => new Date(systemClock.nowMs()),
      }),
    ),
    drives: points.drives(new HostDrives(roots, exec)),
    network: points.network(new LinuxNetwork({ exec, ...roots, vmUidBase: vmUids.first })),
    vmm,
    guestLink: new HostGuestLink(vmm),
    logs: { tail: lastLogLines },
    meters: new HostMeters(roots),
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
function crashAt(wanted: string | undefined, out: Output): ((point: string) => void) | undefined {
  if (wanted === undefined) return undefined;
  return (point) => {
    if (wanted === "list") out.note(`crash point ${point}`);
    if (wanted === point) process.kill(process.pid, "SIGKILL");
  };
}

/** Who runs the command: whom sudo says it runs for, else root. */
function operatorName(env: Readonly<Record<string, string | undefined>>): string {
  const user = env["SUDO_USER"];
  return user === undefined || user === "root" ? "root" : `${user.slice(0, 64)} (sudo)`;
}
