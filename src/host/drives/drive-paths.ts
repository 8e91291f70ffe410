import { join } from "node:path";
import type { InstanceAddress } from "../../domain/ids.ts";
import type { DrivePaths, InstanceFolders } from "../../ports/drives.ts";
import {
  type Roots,
  dataDiskPath,
  instanceLogFolder,
  instanceRunRoot,
  instanceVolumes,
} from "../roots.ts";

export function instanceFolders(roots: Roots, instance: InstanceAddress): InstanceFolders {
  return {
    runDir: join(instanceRunRoot(roots), instance.instance),
    logDir: instanceLogFolder(roots, instance),
  };
}

/** Where the drives of an instance are, or would be. */
export function drivePaths(roots: Roots, instance: InstanceAddress): Required<DrivePaths> {
  return {
    config: join(instanceVolumes(roots, instance), "config.ext4"),
    secrets: join(instanceFolders(roots, instance).runDir, "secrets.ext4"),
    data: dataDiskPath(roots, instance),
  };
}
