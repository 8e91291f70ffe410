import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  open,
  rename,
  rm,
  statfs,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { OperationError, UsageError } from "../../domain/errors.ts";
import {
  type InstanceAddress,
  type TenantId,
  isInstanceId,
  parseInstanceId,
  parsePoolId,
} from "../../domain/ids.ts";
import type { DrivePaths, DriveRequest, Drives, InstanceFolders } from "../../ports/drives.ts";
import type { Exec } from "../../ports/exec.ts";
import { isErrno, listFolderIfAny, lstatIfAny, removeFolderIfEmpty, syncFolder } from "../files.ts";
import { mountPoints } from "../mounts.ts";
import {
  type Roots,
  dataDiskName,
  instanceFolder,
  instanceRunRoot,
  instanceVolumes,
  tenantFolder,
} from "../roots.ts";
import { drivePaths, instanceFolders } from "./drive-paths.ts";
import { HostRecordFolders, ensureOwnFolder, isOwnFolder } from "../store/host-record-folders.ts";

/** From linux/magic.h. */
const tmpfsMagic = 0x01021994;
const toolTimeoutMs = 60_000;
/** Room in an instance's tmpfs for its sockets and two secrets drives: at most 16 scopes of 256 KiB, staged and as drives. */
const runFolderMib = 24;
const mib = 1024 * 1024;

/** Makes drives as raw ext4 files with mkfs.ext4; nothing is ever mounted on the host but one tmpfs an instance. */
export class HostDrives implements Drives {
  readonly #roots: Roots;
  readonly #exec: Exec;
  readonly #recordFolders: HostRecordFolders;

  constructor(roots: Roots, exec: Exec) {
    this.#roots = roots;
    this.#exec = exec;
    this.#recordFolders = new HostRecordFolders(roots);
  }

  folders(instance: InstanceAddress): InstanceFolders {
    return instanceFolders(this.#roots, instance);
  }

  async prepare(request: DriveRequest): Promise<DrivePaths> {
    const { runDir } = this.folders(request.instance);
    const volumes = this.#volumes(request.instance);
    await this.ensureFolders(request.instance);
    await this.#mountRunFolder(runDir, request.instance.instance);
    const { config, secrets } = this.paths(request.instance);
    await this.#makeSmall(config, "mvm-config", runDir, [
      {
        folder: null,
        name: "config.json",
        content: `${JSON.stringify(request.config)}\n`,
        mode: 0o444,
        uid: 0,
      },
    ]);
    await this.#makeSmall(
      secrets,
      "mvm-secrets",
      runDir,
      request.secrets.map(({ integration, uid, values }) => ({
        folder: integration,
        name: "secrets.json",
        content: `${JSON.stringify(values)}\n`,
        mode: 0o400,
        uid,
      })),
    );
    const data = await this.#ensureData(volumes, request.dataDiskMib);
    return { config, secrets, data };
  }

  paths(instance: InstanceAddress): Required<DrivePaths> {
    return drivePaths(this.#roots, instance);
  }

  /** Makes the folders of an instance on disk, or finds them as they should be. @throws NotTrustedError when something else is in the place of one. */
  async ensureFolders(instance: InstanceAddress): Promise<void> {
    await this.#recordFolders.make(instance);
    await ensureOwnFolder(this.#volumes(instance));
    await ensureOwnFolder(this.folders(instance).logDir);
  }

  /** @returns whether an instance's folders on disk are there, and it is safe to look into them. @throws NotTrustedError */
  async hasFolders(instance: InstanceAddress): Promise<boolean> {
    if (!(await this.#recordFolders.check(instance))) return false;
    await isOwnFolder(this.#volumes(instance));
    await isOwnFolder(this.folders(instance).logDir);
    return true;
  }

  async release({ instance }: Pick<InstanceAddress, "instance">): Promise<void> {
    const runDir = join(instanceRunRoot(this.#roots), instance);
    if ((await mountPoints()).includes(runDir)) {
      // Lazily: another command may just look at the channel's lock in it, and must not keep it here.
      await this.#exec.run("umount", ["--lazy", runDir], { timeoutMs: toolTimeoutMs });
    }
    await rm(runDir, { recursive: true, force: true });
  }

  async destroy(instance: InstanceAddress, wipe: boolean): Promise<void> {
    if (!(await this.hasFolders(instance))) return;
    await rm(this.folders(instance).logDir, { recursive: true, force: true });
    if (wipe) await rm(this.#volumes(instance), { recursive: true, force: true });
    else await rm(this.paths(instance).config, { force: true });
    await removeFolderIfEmpty(this.#volumes(instance));
  }

  async wipeTenant(tenant: TenantId): Promise<void> {
    const pools = join(tenantFolder(this.#roots, tenant), "pools");
    for (const pool of await listFolderIfAny(pools)) {
      for (const id of await listFolderIfAny(join(pools, pool, "instances"))) {
        const address = addressIfAny(tenant, pool, id);
        if (address === undefined || !(await this.hasFolders(address))) continue;
        // A folder that still has its record is no leftover.
        const folder = instanceFolder(this.#roots, address);
        if ((await lstatIfAny(join(folder, "instance.json"))) !== undefined) continue;
        await this.destroy(address, true);
        await this.#recordFolders.remove(address);
        await this.#recordFolders.remove({ tenant, pool: address.pool });
      }
    }
  }

  #volumes(instance: InstanceAddress): string {
    return instanceVolumes(this.#roots, instance);
  }

  /** Gives the run folder a tmpfs of its own, so that secrets are in memory on every host. */
  async #mountRunFolder(runDir: string, id: string): Promise<void> {
    await mkdir(runDir, { recursive: true, mode: 0o700 });
    if ((await mountPoints()).includes(runDir)) return;
    await this.#exec.run(
      "mount",
      [
        "-t",
        "tmpfs",
        "-o",
        `size=${runFolderMib}m,mode=0700,nosuid,nodev,noexec`,
        `mvm-${id}`,
        runDir,
      ],
      { timeoutMs: toolTimeoutMs },
    );
  }

  /** Makes an ext4 of a few small files. What goes into it is staged in tmpfs too. */
  async #makeSmall(
    path: string,
    label: string,
    runDir: string,
    files: readonly SmallFile[],
  ): Promise<void> {
    await assertTmpfs(runDir);
    const staging = await mkdtemp(join(runDir, ".stage-"));
    try {
      for (const file of files) await stage(staging, file);
      await rm(path, { force: true });
      await makeSparse(path, smallDriveMib(files));
      await this.#exec.run(
        "mkfs.ext4",
        [
          "-q",
          "-F",
          "-O",
          "^has_journal",
          "-m",
          "0",
          "-L",
          label,
          "-E",
          "root_owner=0:0",
          "-d",
          staging,
          path,
        ],
        { timeoutMs: toolTimeoutMs },
      );
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }

  async #ensureData(volumes: string, sizeMib: number): Promise<string | undefined> {
    if (sizeMib === 0) return undefined;
    const path = join(volumes, dataDiskName);
    try {
      const file = await open(path, "r");
      await file.close();
      return path;
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
    // Under its final name only when it is whole: a half-made file system must not be taken for data.
    const temporary = join(volumes, `${dataDiskName}.tmp`);
    await rm(temporary, { force: true });
    await makeSparse(temporary, sizeMib);
    await this.#exec.run(
      "mkfs.ext4",
      ["-q", "-F", "-m", "0", "-L", "mvm-data", "-E", "root_owner=0:0", temporary],
      { timeoutMs: toolTimeoutMs },
    );
    await rename(temporary, path);
    await syncFolder(dirname(path));
    return path;
  }
}

/** The instance that two names of folders stand for; undefined when they are no names of mvm's. */
function addressIfAny(tenant: TenantId, pool: string, id: string): InstanceAddress | undefined {
  if (!isInstanceId(id)) return undefined;
  try {
    return { tenant, pool: parsePoolId(pool), instance: parseInstanceId(id) };
  } catch (error) {
    if (error instanceof UsageError) return undefined;
    throw error;
  }
}

/** A file of a drive: at its top, or in a folder that its user alone can enter. */
interface SmallFile {
  readonly folder: string | null;
  readonly name: string;
  readonly content: string;
  readonly mode: number;
  readonly uid: number;
}

async function stage(staging: string, file: SmallFile): Promise<void> {
  const folder = file.folder === null ? staging : join(staging, file.folder);
  if (file.folder !== null) {
    await mkdir(folder, { mode: 0o500 });
    await chown(folder, file.uid, file.uid);
  }
  const path = join(folder, file.name);
  await writeFile(path, file.content, { mode: 0o600, flag: "wx" });
  await chmod(path, file.mode);
  await chown(path, file.uid, file.uid);
}

/** What the files take, and once that for the file system itself. */
function smallDriveMib(files: readonly SmallFile[]): number {
  const bytes = files.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0);
  return 1 + Math.floor((2 * bytes) / mib);
}

/** @throws OperationError unless the folder lies in tmpfs. */
async function assertTmpfs(path: string): Promise<void> {
  const { type } = await statfs(path);
  if (type !== tmpfsMagic) {
    throw new OperationError(`${path} is not in tmpfs: secrets are not written there`);
  }
}

async function makeSparse(path: string, sizeMib: number): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.truncate(sizeMib * 1024 * 1024);
  } finally {
    await file.close();
  }
}
