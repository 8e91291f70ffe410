import { ConflictError, UsageError } from "../../domain/errors.ts";
import type { InstanceAddress, InstanceId } from "../../domain/ids.ts";
import { integrationUid, secretsFiles } from "../../domain/secret-scopes.ts";
import type { SecretsFile } from "../../domain/secret-scopes.ts";
import type { HostdHandlers } from "../../ports/hostd.ts";
import type { GuestConfig } from "../../protocol/guest-config.ts";
import type { SecretsNames } from "../../protocol/hostd-objects.ts";
import type { HostdContext } from "./context.ts";
import { livingVmms } from "./vmm-handlers.ts";

type DriveHandlers = Pick<
  HostdHandlers,
  | "DrivesPrepare"
  | "DrivesRelease"
  | "DrivesDestroy"
  | "DrivesWipeTenant"
  | "DataDiskUse"
  | "FoldersMake"
  | "FoldersRemove"
>;

export function driveHandlers(context: HostdContext): DriveHandlers {
  const { drives, turns } = context;
  return {
    DrivesPrepare: ({ instance, dataDiskMib, config, secrets }) =>
      turns.of(instance.instance, async () => {
        requireOwnConfig(instance, config);
        await requireIdle(context, instance.instance);
        const files = secrets.map(secretsFileOf);
        const { data } = await drives.prepare({ instance, dataDiskMib, config, secrets: files });
        return { hasData: data !== undefined };
      }),
    DrivesRelease: ({ instance }) =>
      turns.of(instance, async () => {
        await requireIdle(context, instance);
        await drives.release({ instance });
        return {};
      }),
    DrivesDestroy: ({ instance, wipe }) =>
      turns.of(instance.instance, async () => {
        await requireIdle(context, instance.instance);
        await drives.destroy(instance, wipe);
        return {};
      }),
    DrivesWipeTenant: async ({ tenant }) => {
      await drives.wipeTenant(tenant);
      return {};
    },
    DataDiskUse: async ({ instance }) => {
      if (!(await drives.hasFolders(instance))) return { use: null };
      return { use: (await context.meters.dataDisk(instance)) ?? null };
    },
    FoldersMake: async ({ of }) => {
      await context.folders.make(of);
      return {};
    },
    FoldersRemove: async ({ of }) => {
      await context.folders.remove(of);
      return {};
    },
  };
}

/** What a VMM has open is neither replaced nor removed under it. */
async function requireIdle(context: HostdContext, instance: InstanceId): Promise<void> {
  if (!(await livingVmms(context)).some(({ id }) => id === instance)) return;
  throw new ConflictError(`${instance} has a VMM, and its drives are left alone`);
}

/** A guest is told of itself and of no other. */
function requireOwnConfig(instance: InstanceAddress, config: GuestConfig): void {
  const isOwn =
    config.tenant_id === instance.tenant &&
    config.pool_id === instance.pool &&
    config.instance_id === instance.instance;
  if (!isOwn) throw new UsageError("a config drive is told of another instance than its own");
}

/** Who may read it in the guest follows from its integration alone. */
function secretsFileOf({ integration, values }: SecretsNames): SecretsFile {
  if (integration !== null) return { integration, uid: integrationUid(integration), values };
  const [file] = secretsFiles([], values);
  if (file === undefined) throw new UsageError("secrets without scopes are one file");
  return file;
}
