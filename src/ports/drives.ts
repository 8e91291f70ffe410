import type { InstanceAddress, TenantId } from "../domain/ids.ts";
import type { SecretsFile } from "../domain/secret-scopes.ts";
import type { GuestConfig } from "../protocol/guest-config.ts";

export interface InstanceFolders {
  /** Sockets and the secrets drive; a tmpfs of its own while the instance runs. */
  readonly runDir: string;
  readonly logDir: string;
}

export interface DrivePaths {
  readonly config: string;
  readonly secrets: string;
  /** Undefined when the instance has no data disk. */
  readonly data: string | undefined;
}

export interface DriveRequest {
  readonly instance: InstanceAddress;
  readonly dataDiskMib: number;
  readonly config: GuestConfig;
  /** What lies on the secrets drive. */
  readonly secrets: readonly SecretsFile[];
}

/** The drives of an instance besides its image. Every call is ensure-style. */
export interface Drives {
  folders(instance: InstanceAddress): InstanceFolders;
  /** Makes config and secrets anew and the data disk when there is none. @throws OperationError when the secrets would not lie in tmpfs. */
  prepare(request: DriveRequest): Promise<DrivePaths>;
  /** Removes the run folder with its secrets; the VMM is gone. */
  release(instance: Pick<InstanceAddress, "instance">): Promise<void>;
  /** Removes logs and config of a destroyed instance, and its data disk when `wipe` is set. */
  destroy(instance: InstanceAddress, wipe: boolean): Promise<void>;
  /** Removes data disks that destroyed instances of a tenant left behind. */
  wipeTenant(tenant: TenantId): Promise<void>;
}
