import { copyFile, chmod, mkdir, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { HostLacksError } from "../domain/errors.ts";
import { type GuestService, guestServicesFolder } from "../domain/guest-service.ts";
import type { Role } from "../domain/roles.ts";
import { isErrno } from "../host/files.ts";
import type { Exec } from "../ports/exec.ts";
import { makeExt4 } from "./ext4.ts";
import { writeInitramfs } from "./initramfs.ts";
import { plainModes } from "./tree.ts";

/** Where things are that every image is made of. */
export interface ImagePlaces {
  /** `<stateDir>/payloads` */
  readonly payloads: string;
  /** The folder of mvm itself. */
  readonly project: string;
}

const copyTimeoutMs = 5 * 60_000;

const mountPoints: readonly string[] = [
  "proc",
  "sys",
  "dev",
  "run",
  "tmp",
  "data",
  "root",
  "var/log/mvm",
  "etc/mvm-config",
  guestServicesFolder,
  "nix/store",
];

/** The programs of the guest that mvm brings itself, by role, from `dist/guest`. */
export function guestPrograms(role: Role): string[] {
  return role === "gateway" ? ["agent.mjs", "gateway.mjs"] : ["agent.mjs"];
}

/** The guest's initrd: drivers and the init that mounts the drives. */
export async function writeGuestInitrd(places: ImagePlaces, path: string): Promise<void> {
  await writeInitramfs(path, {
    busybox: join(places.payloads, "base", "tree", "bin", "busybox"),
    modulesFolder: join(places.payloads, "kernel", "modules"),
    programs: { init: join(places.project, "nix", "guest", "init") },
  });
}

/**
 * Makes the root file system of a guest: the base, the guest agent, and below `tree/nix/store` what was
 * unpacked there before. `tree` is filled and left behind for the caller to remove.
 */
export async function writeRootfs(
  exec: Exec,
  places: ImagePlaces,
  options: {
    readonly tree: string;
    readonly image: string;
    readonly role: Role;
    readonly services: readonly GuestService[];
    readonly signal?: AbortSignal;
  },
): Promise<void> {
  const { tree } = options;
  const signalOption = options.signal === undefined ? {} : { signal: options.signal };
  await layGuestBase(exec, places, { tree, role: options.role, ...signalOption });
  for (const service of options.services) {
    const text = `${JSON.stringify(service, null, 2)}\n`;
    const path = join(tree, guestServicesFolder, `${service.name}.json`);
    await writeFile(path, text);
    await chmod(path, 0o644);
  }
  await makeRootfs(exec, { tree, image: options.image, ...signalOption });
}

/** A root file system of a whole tree, as ext4. */
export async function makeRootfs(
  exec: Exec,
  options: { readonly tree: string; readonly image: string; readonly signal?: AbortSignal },
): Promise<void> {
  await makeExt4({ exec, label: "mvm-rootfs", ...options });
}

/** Fills `tree` with the guest base and the programs of a role; what was unpacked into its store stays. */
export async function layGuestBase(
  exec: Exec,
  places: ImagePlaces,
  options: { readonly tree: string; readonly role: Role; readonly signal?: AbortSignal },
): Promise<void> {
  const { tree } = options;
  for (const source of [
    join(places.payloads, "base", "tree"),
    join(places.project, "nix", "guest", "rootfs"),
  ]) {
    await exec.run("cp", ["-a", "--no-preserve=ownership", "--", `${source}/.`, tree], {
      timeoutMs: copyTimeoutMs,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
  }
  for (const path of mountPoints) await mkdir(join(tree, path), { recursive: true });
  const programs = join(tree, "usr", "lib", "mvm");
  await mkdir(programs, { recursive: true });
  for (const name of guestPrograms(options.role)) {
    await copyFile(join(places.project, "dist", "guest", name), join(programs, name));
  }
  // What was unpacked has its modes already.
  await plainModes(tree, (name) => name === join("nix", "store"));
  await chmod(join(tree, "nix", "store"), 0o755);
  await chmod(join(tree, "tmp"), 0o1777);
  await chmod(join(tree, "root"), 0o700);
}

/** @throws HostLacksError that says how to get what is missing. */
export async function checkGuestPrograms(places: ImagePlaces, role: Role): Promise<void> {
  const folder = join(places.project, "dist", "guest");
  let present: string[] = [];
  try {
    present = await readdir(folder);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
  const missing = guestPrograms(role).filter((name) => !present.includes(name));
  if (missing.length === 0) return;
  throw new HostLacksError(`the guest's ${missing.join(" and ")} is not built`, {
    hint: `run \`npm run build\` in ${dirname(dirname(folder))}`,
  });
}
