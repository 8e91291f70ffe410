import { instanceNetwork, tenantNetwork, vmUid } from "../domain/address-plan.ts";
import type { Machine } from "../domain/machine.ts";
import type { DrivePaths, InstanceFolders } from "../ports/drives.ts";
import type { ImageFiles } from "../ports/images.ts";
import type { DriveSpec, VmmSpec } from "../ports/vmm.ts";

/** Where on a host the parts of a machine are. */
export interface MachinePlaces {
  readonly vmUidBase: number;
  readonly folders: InstanceFolders;
  readonly image: ImageFiles;
  /** `data` counts only for a machine that has a data disk. */
  readonly drives: DrivePaths;
}

/** The VMM of an instance: all of it follows from the machine's names and numbers and from where this host keeps things. */
export function machineSpec(machine: Machine, places: MachinePlaces): VmmSpec {
  const { instance, netId, offset } = machine;
  const network = instanceNetwork(netId, offset);
  const drives: DriveSpec[] = [{ id: "rootfs", path: places.image.rootfs, readOnly: true }];
  if (machine.hasConfig) {
    drives.push({ id: "config", path: places.drives.config, readOnly: true });
    drives.push({ id: "secrets", path: places.drives.secrets, readOnly: true });
  }
  if (machine.hasData && places.drives.data !== undefined) {
    drives.push({ id: "data", path: places.drives.data, readOnly: false });
  }
  return {
    id: instance.instance,
    ...places.folders,
    uid: vmUid(places.vmUidBase, netId, offset),
    vcpus: machine.vcpus,
    memMib: machine.memMib,
    kernelPath: places.image.kernel,
    initrdPath: places.image.initrd,
    kernelArgs: [
      `mvm.ip=${network.ip}`,
      `mvm.gateway=${tenantNetwork(netId).gatewayIp}`,
      `mvm.hostname=${instance.instance}`,
    ],
    drives,
    nics: [{ tap: network.tap, mac: network.mac }],
    machine,
  };
}
