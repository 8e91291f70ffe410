import type { InstanceAddress } from "../../domain/ids.ts";
import type { DrivePaths, Drives } from "../../ports/drives.ts";
import type { HostInventory } from "../../ports/host-inventory.ts";
import type { ImageBuilder } from "../../ports/image-builder.ts";
import type { Images } from "../../ports/images.ts";
import type { Logs } from "../../ports/logs.ts";
import type { Meters } from "../../ports/meters.ts";
import type { Network, TenantNetworkState } from "../../ports/network.ts";
import type { NetIds, RecordFolders } from "../../ports/record-folders.ts";
import type { TenantKeys } from "../../ports/tenant-keys.ts";
import type { Vmm, VmmProcess } from "../../ports/vmm.ts";
import type { Turns } from "./turns.ts";

/** The drives of instances, by what hostd needs of them beyond the port. */
export interface HostdDrives extends Drives {
  /** Where the drives of an instance are, or would be. */
  paths(instance: InstanceAddress): DrivePaths;
  /** Makes its folders, or finds them as they should be. @throws NotTrustedError when something else is in the place of one. */
  ensureFolders(instance: InstanceAddress): Promise<void>;
  /** @returns whether they are there. @throws NotTrustedError when something else is in the place of one. */
  hasFolders(instance: InstanceAddress): Promise<boolean>;
}

/** All that hostd works with: the ports as they are in one process, and what it checks requests by. */
export interface HostdContext {
  readonly settings: {
    readonly vmUidBase: number;
    /** Where the run folders of instances lie. */
    readonly instanceRunRoot: string;
  };
  readonly vmm: Vmm;
  readonly drives: HostdDrives;
  readonly network: Network;
  /** What `network` last brought about, whoever asked for it. */
  readonly applied: () => Promise<readonly TenantNetworkState[]>;
  readonly builder: ImageBuilder;
  readonly images: Images;
  readonly keys: TenantKeys;
  readonly logs: Logs;
  readonly meters: Pick<Meters, "dataDisk">;
  readonly inventory: HostInventory;
  readonly folders: RecordFolders;
  readonly netIds: NetIds;
  /** @throws NotTrustedError for a flake that hostd does not read for agentd. */
  readonly requireFlake: (flakeRef: string) => Promise<void>;
  /** @throws PromiseLackingError in production, while a promise is not kept: agentd is not believed in that. */
  readonly requirePromises: () => Promise<void>;
  /** Waits for the turn to talk to a guest. @returns what gives it up again. */
  readonly guestTurn: (
    process: VmmProcess,
    waitMs: number,
    signal: AbortSignal,
  ) => Promise<() => Promise<void>>;
  /** Instances by their ids, and `network`: a name no instance has. */
  readonly turns: Turns;
}
