import { chmod, copyFile, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OperationError, UsageError } from "../domain/errors.ts";
import type { Role } from "../domain/roles.ts";
import { isErrno } from "../host/files.ts";
import type { BuilderLink } from "../ports/builder-network.ts";
import type { Exec } from "../ports/exec.ts";
import type { BuildAnswer } from "./build-answer.ts";
import { notPrepared } from "./build-key.ts";
import { layGuestBase, writeGuestInitrd, type ImagePlaces } from "./guest-image.ts";
import { linkOrCopy } from "./image-store.ts";
import { narHash } from "./nar.ts";
import {
  chosenModules,
  payloadInputs,
  wantedPackages,
  wantedPayloads,
  type Profiles,
} from "./profiles.ts";

export interface InputOptions {
  readonly exec: Exec;
  readonly places: ImagePlaces;
  /** Becomes the input drive; the flake is in it already. */
  readonly inputTree: string;
  readonly profiles: Profiles;
  readonly role: Role;
  readonly profile: string;
  readonly link?: BuilderLink;
  readonly signal?: AbortSignal;
}

const packTimeoutMs = 5 * 60_000;

/**
 * Adds to an input drive what the builder looks for and the inputs that mvm offers to flakes. All of
 * it has the same content and modes on every host that was prepared from the same packages: Nix names
 * what it builds by the content and executable bits of its inputs.
 * @returns the NAR hashes of the inputs by their URL in a flake, such as `path:/mvm/tools`.
 */
export async function addInputs(options: InputOptions): Promise<ReadonlyMap<string, string>> {
  const { places, inputTree, profiles, role, profile } = options;
  const wanted = wantedPackages(profiles, role, profile).map(
    ({ name, complete }) => `${complete ? "complete" : "package"} ${name}\n`,
  );
  await writeFile(join(inputTree, "wanted"), wanted.join(""));
  const modules = [...chosenModules(profiles, role, profile)].flatMap(([name, module]) =>
    module.package === undefined ? [] : [`${name} ${module.package}\n`],
  );
  await writeFile(join(inputTree, "modules"), modules.join(""));
  if (options.link !== undefined) await addNetwork(options, options.link);
  const tools = join(inputTree, "tools");
  await mkdir(tools);
  await copyFile(join(places.payloads, "base", "tree", "bin", "busybox"), join(tools, "busybox"));
  await chmod(join(tools, "busybox"), 0o755);
  const wantedInputs = wantedPayloads(profiles, role, profile);
  const hashes = new Map([["path:/mvm/tools", await narHash(tools)]]);
  for (const name of payloadInputs) {
    const folder = join(inputTree, name);
    // Nix reads all inputs of a flake: one that this build does not need is there and empty.
    await mkdir(folder);
    if (wantedInputs.includes(name)) {
      await (name === "guest" ? addGuest(options, folder) : addPayload(options, folder, name));
    }
    hashes.set(`path:/mvm/${name}`, await narHash(folder));
  }
  return hashes;
}

/**
 * Holds what Nix found the inputs and the flake to be against what the host handed over.
 * @throws OperationError when they differ: what was built was built from something else.
 */
export function checkLocked(
  found: Pick<BuildAnswer, "narHash" | "inputs">,
  flakeHash: string,
  inputHashes: ReadonlyMap<string, string>,
): void {
  const pairs: readonly [string, string, string | undefined][] = [
    ["flake", found.narHash, flakeHash],
    ...found.inputs.map(({ url, nar_hash }): [string, string, string | undefined] => [
      url,
      nar_hash,
      inputHashes.get(url),
    ]),
  ];
  for (const [what, hash, expected] of pairs) {
    if (expected === undefined || expected === hash) continue;
    throw new OperationError(
      `the builder's output is refused: it was built from another ${what} (${hash}) than it was given (${expected})`,
    );
  }
}

/**
 * An image is a function of what its flake locks, so an input that no lock file holds is not used.
 * @throws UsageError naming it.
 */
export function requireLocks(inputs: BuildAnswer["inputs"], lockFile: string | undefined): void {
  const open = inputs.find(
    // What lies below a path is part of the flake, or was handed over by the host.
    ({ url, nar_hash }) => !url.startsWith("path:") && lockFile?.includes(nar_hash) !== true,
  );
  if (open === undefined) return;
  throw new UsageError(`the flake's input ${open.name} (${open.url}) is not in its flake.lock`, {
    hint: "run `nix flake lock` in the flake's folder and keep the file: what is not locked may be another tomorrow",
  });
}

/** How the builder reaches the outside, and the certificates by which it knows whom it reaches. */
async function addNetwork({ places, inputTree }: InputOptions, link: BuilderLink): Promise<void> {
  const words = [link.guest, link.gateway, ...link.resolvers];
  await writeFile(join(inputTree, "network"), `${words.join(" ")}\n`);
  const certificates = join("etc", "ssl", "certs", "ca-certificates.crt");
  await copyFile(
    join(places.payloads, "base", "tree", certificates),
    join(inputTree, "ca-certificates.crt"),
  );
}

async function addPayload(options: InputOptions, folder: string, name: string): Promise<void> {
  const source = join(options.places.payloads, name, `${name}.tar`);
  const place = join(folder, `${name}.tar`);
  try {
    // An executable bit, from whatever copied the payload here, would be another input to Nix.
    await chmod(source, 0o644);
    await linkOrCopy(source, place);
  } catch (error) {
    if (isErrno(error, "ENOENT")) throw notPrepared(name, error);
    throw error;
  }
}

/** What a flake needs that makes a complete image: kernel and initrd as every guest has them, and the root file system before a package is laid over it. */
async function addGuest(options: InputOptions, folder: string): Promise<void> {
  const { exec, places, role } = options;
  const tree = `${options.inputTree}.guest`;
  const signalOption = options.signal === undefined ? {} : { signal: options.signal };
  await mkdir(join(tree, "nix", "store"), { recursive: true });
  await layGuestBase(exec, places, { tree, role, ...signalOption });
  await exec.run(
    "tar",
    [
      "--create",
      `--file=${join(folder, "rootfs.tar")}`,
      `--directory=${tree}`,
      "--format=gnu",
      "--sort=name",
      "--mtime=@1",
      "--owner=0",
      "--group=0",
      "--numeric-owner",
      "--hard-dereference",
      ".",
    ],
    { timeoutMs: packTimeoutMs, ...signalOption },
  );
  await rm(tree, { recursive: true });
  await copyFile(join(places.payloads, "kernel", "vmlinuz"), join(folder, "kernel"));
  await writeGuestInitrd(places, join(folder, "initrd"));
  for (const name of ["rootfs.tar", "kernel", "initrd"]) await chmod(join(folder, name), 0o644);
}
