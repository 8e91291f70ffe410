import { join } from "node:path";
import type { HostParts } from "./compose-node.ts";
import { HostDrives } from "./host/drives/host-drives.ts";
import { HostExec } from "./host/exec.ts";
import { type GuestMeeting, inRunFolder } from "./host/guest-link.ts";
import { HostMeters } from "./host/host-meters.ts";
import { HttpsDownload } from "./host/https-download.ts";
import { HostLogs } from "./host/log-files.ts";
import { LinuxBuilderNetwork } from "./host/net/builder-network.ts";
import { LinuxNetwork } from "./host/net/linux-network.ts";
import { hostScope } from "./host/own-scope.ts";
import { requirePlatform } from "./host/setup/platform-file.ts";
import { FileImages } from "./host/store/file-images.ts";
import { FileNetIds } from "./host/store/file-net-ids.ts";
import { FileTenantKeys } from "./host/store/file-tenant-keys.ts";
import { HostRecordFolders } from "./host/store/host-record-folders.ts";
import { systemClock } from "./host/system-clock.ts";
import { QemuVmm } from "./host/vmm/qemu/qemu-vmm.ts";
import { vmUids } from "./host/vmm/uids.ts";
import { MicrovmImageBuilder } from "./image/microvm-image-builder.ts";
import type { CrashPoints } from "./node/crash-points.ts";
import type { Drives } from "./ports/drives.ts";
import type { ImageBuilder } from "./ports/image-builder.ts";
import type { Images } from "./ports/images.ts";
import type { Logs } from "./ports/logs.ts";
import type { Meters } from "./ports/meters.ts";
import type { Network } from "./ports/network.ts";
import type { NetIds, RecordFolders } from "./ports/record-folders.ts";
import type { TenantKeys } from "./ports/tenant-keys.ts";
import type { Vmm } from "./ports/vmm.ts";

/** The ports that need root: in this process, or through hostd. The engine cannot tell. */
export interface PrivilegedPorts {
  readonly vmm: Vmm;
  readonly meeting: GuestMeeting;
  readonly drives: Drives;
  readonly network: Network;
  readonly builder: ImageBuilder;
  readonly images: Images;
  readonly keys: TenantKeys;
  readonly logs: Logs;
  readonly meters: Meters;
  readonly folders: RecordFolders;
  readonly netIds: NetIds;
}

/** What is this host's own of them, beyond the ports. */
export interface LocalPorts extends PrivilegedPorts {
  readonly drives: HostDrives;
}

export type WithNode = <T>(what: string, work: () => Promise<T>) => Promise<T>;

/** The ports in this process, which is root's. `withNode` runs work alone on this node: builders share its forwarding with tenants. */
export function localPorts(
  { roots, projectDir, version }: HostParts,
  withNode: WithNode,
  points: CrashPoints,
): LocalPorts {
  const exec = new HostExec();
  const vmm = points.vmm(new QemuVmm(() => requirePlatform(roots.stateDir), hostScope()));
  return {
    vmm,
    meeting: inRunFolder,
    drives: points.drives(new HostDrives(roots, exec)),
    network: points.network(
      new LinuxNetwork({ exec, ...roots, vmUidBase: vmUids.first, scope: hostScope() }),
    ),
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
          withNode,
        }),
        now: () => new Date(systemClock.nowMs()),
      }),
    ),
    images: new FileImages(roots),
    keys: points.keys(new FileTenantKeys(roots)),
    logs: new HostLogs(roots),
    meters: new HostMeters(roots),
    folders: new HostRecordFolders(roots),
    netIds: new FileNetIds(roots),
  };
}

/** The file that tells what was last applied of the tenants' networks. */
export function appliedNetworksPath({ roots }: HostParts): string {
  return join(roots.runDir, "network-applied.json");
}
