import type { InstanceAddress, TenantId } from "../../domain/ids.ts";
import type { DrivePaths, DriveRequest, Drives, InstanceFolders } from "../../ports/drives.ts";
import type { Logs } from "../../ports/logs.ts";
import type { DiskUse } from "../../ports/meters.ts";
import type { RecordAddress, RecordFolders } from "../../ports/record-folders.ts";
import { drivePaths, instanceFolders } from "../drives/drive-paths.ts";
import { HostMeters } from "../host-meters.ts";
import type { Roots } from "../roots.ts";
import type { HostdClient } from "./client.ts";

/** The drives of instances, as hostd makes them. */
export class RemoteDrives implements Drives {
  readonly #hostd: HostdClient;
  readonly #roots: Roots;

  constructor(hostd: HostdClient, roots: Roots) {
    this.#hostd = hostd;
    this.#roots = roots;
  }

  folders(instance: InstanceAddress): InstanceFolders {
    return instanceFolders(this.#roots, instance);
  }

  async prepare({ instance, dataDiskMib, config, secrets }: DriveRequest): Promise<DrivePaths> {
    const { hasData } = await this.#hostd.call("DrivesPrepare", {
      instance,
      dataDiskMib,
      config,
      secrets: secrets.map(({ integration, values }) => ({ integration, values })),
    });
    const paths = drivePaths(this.#roots, instance);
    return { ...paths, data: hasData ? paths.data : undefined };
  }

  async release({ instance }: Pick<InstanceAddress, "instance">): Promise<void> {
    await this.#hostd.call("DrivesRelease", { instance });
  }

  async destroy(instance: InstanceAddress, wipe: boolean): Promise<void> {
    await this.#hostd.call("DrivesDestroy", { instance, wipe });
  }

  async wipeTenant(tenant: TenantId): Promise<void> {
    await this.#hostd.call("DrivesWipeTenant", { tenant });
  }
}

/** Logs lie in folders that are root's. */
export class RemoteLogs implements Logs {
  readonly #hostd: HostdClient;

  constructor(hostd: HostdClient) {
    this.#hostd = hostd;
  }

  async console(instance: InstanceAddress, count: number): Promise<string[]> {
    return (await this.#hostd.call("ConsoleTail", { instance, lines: count })).lines;
  }
}

/** What anyone may read on a host is read here; disks are measured by hostd. */
export class RemoteMeters extends HostMeters {
  readonly #hostd: HostdClient;

  constructor(hostd: HostdClient, roots: Roots) {
    super(roots);
    this.#hostd = hostd;
  }

  override async dataDisk(instance: InstanceAddress): Promise<DiskUse | undefined> {
    return (await this.#hostd.call("DataDiskUse", { instance })).use ?? undefined;
  }
}

/** The folders of records, which are root's. */
export class RemoteRecordFolders implements RecordFolders {
  readonly #hostd: HostdClient;

  constructor(hostd: HostdClient) {
    this.#hostd = hostd;
  }

  async make(of: RecordAddress): Promise<void> {
    await this.#hostd.call("FoldersMake", { of });
  }

  async remove(of: RecordAddress): Promise<void> {
    await this.#hostd.call("FoldersRemove", { of });
  }
}
