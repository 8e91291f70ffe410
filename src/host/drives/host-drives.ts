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
import { OperationError } from "../../domain/errors.ts";
import type { InstanceAddress, TenantId } from "../../domain/ids.ts";
import type { DrivePaths, DriveRequest, Drives, InstanceFolders } from "../../ports/drives.ts";
import type { Exec } from "../../ports/exec.ts";
import {
  isErrno,
  listFolderIfAny,
  readFileIfAny,
  removeFolderIfEmpty,
  syncFolder,
} from "../files.ts";
import { mountPoints } from "../mounts.ts";
import {
  type Roots,
  dataDiskName,
  instanceFolder,
  instanceRunRoot,
  tenantFolder,
} from "../roots.ts";

/** From linux/magic.h. */
const tmpfsMagic = 0x01021994;
const toolTimeoutMs = 60_000;
/** The guest base's account for workloads: its services read the secrets, as root always can. */
const workloadUid = 1000;
/** Room in an instance's tmpfs for its sockets and two secrets drives. */
const runFolderMib = 16;
const smallDriveMib = 1;

/** Makes drives as raw ext4 files with mkfs.ext4; nothing is ever mounted on the host but one tmpfs an instance. */
export class HostDrives implements Drives {
  readonly #roots: Roots;
  readonly #exec: Exec;

  constructor(roots: Roots, exec: Exec) {
    this.#roots = roots;
    this.#exec = exec;
  }

  folders(instance: InstanceAddress): InstanceFolders {
    return {
      runDir: join(instanceRunRoot(this.#roots), instance.instance),
      logDir: join(instanceFolder(this.#roots, instance), "logs"),
    };
  }

  async prepare(request: DriveRequest): Promise<DrivePaths> {
    const { runDir } = this.folders(request.instance);
    const volumes = this.#volumes(request.instance);
    await mkdir(volumes, { recursive: true, mode: 0o700 });
    await this.#mountRunFolder(runDir, request.instance.instance);
    const config = join(volumes, "config.ext4");
    await this.#makeSmall(config, "mvm-config", runDir, {
      name: "config.json",
      content: `${JSON.stringify(request.config)}\n`,
      mode: 0o444,
      uid: 0,
    });
    const secrets = join(runDir, "secrets.ext4");
    await this.#makeSmall(secrets, "mvm-secrets", runDir, {
      name: "secrets.json",
      content: `${JSON.stringify(request.secrets)}\n`,
      mode: 0o400,
      uid: workloadUid,
    });
    const data = await this.#ensureData(volumes, request.dataDiskMib);
    return { config, secrets, data };
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
    const folder = instanceFolder(this.#roots, instance);
    await rm(join(folder, "logs"), { recursive: true, force: true });
    if (wipe) await rm(this.#volumes(instance), { recursive: true, force: true });
    else await rm(join(this.#volumes(instance), "config.ext4"), { force: true });
    await removeFolderIfEmpty(this.#volumes(instance));
  }

  async wipeTenant(tenant: TenantId): Promise<void> {
    const pools = join(tenantFolder(this.#roots, tenant), "pools");
    for (const pool of await listFolderIfAny(pools)) {
      const instances = join(pools, pool, "instances");
      for (const id of await listFolderIfAny(instances)) {
        // A folder that still has its record is no leftover.
        const folder = join(instances, id);
        if ((await readFileIfAny(join(folder, "instance.json"))) !== undefined) continue;
        await rm(folder, { recursive: true, force: true });
      }
      await removeFolderIfEmpty(instances);
      await removeFolderIfEmpty(join(pools, pool));
    }
  }

  #volumes(instance: InstanceAddress): string {
    return join(instanceFolder(this.#roots, instance), "volumes");
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

  /** Makes an ext4 of one file. What goes into it is staged in tmpfs too. */
  async #makeSmall(
    path: string,
    label: string,
    runDir: string,
    file: { name: string; content: string; mode: number; uid: number },
  ): Promise<void> {
    await assertTmpfs(runDir);
    const staging = await mkdtemp(join(runDir, ".stage-"));
    try {
      const staged = join(staging, file.name);
      await writeFile(staged, file.content, { mode: 0o600, flag: "wx" });
      await chmod(staged, file.mode);
      await chown(staged, file.uid, file.uid);
      await rm(path, { force: true });
      await makeSparse(path, smallDriveMib);
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
