import type { HostParts } from "./compose-node.ts";
import type { PrivilegedPorts } from "./compose-privileged.ts";
import { HostdClient } from "./host/hostd/client.ts";
import {
  RemoteDrives,
  RemoteLogs,
  RemoteMeters,
  RemoteRecordFolders,
} from "./host/hostd/remote-drives.ts";
import { RemoteImageBuilder, RemoteImages } from "./host/hostd/remote-images.ts";
import { RemoteTenantKeys } from "./host/hostd/remote-keys.ts";
import { RemoteNetIds, RemoteNetwork } from "./host/hostd/remote-network.ts";
import { RemoteVmm, remoteMeeting } from "./host/hostd/remote-vmm.ts";
import { instanceRunRoot } from "./host/roots.ts";
import { FileImages } from "./host/store/file-images.ts";
import { peerCredentials } from "./host/syscalls.ts";
import type { HostInventory } from "./ports/host-inventory.ts";
import type { CrashPoints } from "./node/crash-points.ts";

/** What lies on the host, as hostd finds it. */
export function remoteInventory(socket: string): HostInventory {
  const hostd = new HostdClient({ path: socket, peerOf: peerCredentials });
  return { found: () => hostd.call("HostInventory", {}) };
}

/** The ports that need root, through hostd: this process needs no privileges. @throws HostLacksError when hostd does not answer. */
export async function remotePorts(
  { roots }: HostParts,
  socket: string,
  points: CrashPoints,
): Promise<PrivilegedPorts> {
  const hostd = new HostdClient({ path: socket, peerOf: peerCredentials });
  const { capabilities } = await hostd.call("Describe", {});
  return {
    vmm: points.vmm(new RemoteVmm(hostd, capabilities, instanceRunRoot(roots))),
    meeting: remoteMeeting(hostd, roots),
    drives: points.drives(new RemoteDrives(hostd, roots)),
    network: points.network(new RemoteNetwork(hostd)),
    builder: points.builder(new RemoteImageBuilder(hostd)),
    images: new RemoteImages(hostd, new FileImages(roots)),
    keys: points.keys(new RemoteTenantKeys(hostd)),
    logs: new RemoteLogs(hostd),
    meters: new RemoteMeters(hostd, roots),
    folders: new RemoteRecordFolders(hostd),
    netIds: new RemoteNetIds(hostd),
  };
}
