import type { Stats } from "node:fs";
import { lstat, mkdir, readdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HostLacksError, OperationError } from "../../domain/errors.ts";
import type { Exec, RunResult } from "../../ports/exec.ts";
import { isErrno, sha256OfFile } from "../files.ts";

/** A Debian package that was downloaded; apt has checked it against the signed index. */
export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
  readonly path: string;
}

const downloadTimeoutMs = 15 * 60_000;
const unpackTimeoutMs = 5 * 60_000;

/**
 * The variables that say how this machine reaches its package sources. They are the operator's and
 * are handed on to apt and npm; nothing else of the environment is.
 */
export function networkEnvironment(): Record<string, string> {
  const environment: Record<string, string> = {
    PATH: process.env["PATH"] ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: process.env["HOME"] ?? "/root",
    LC_ALL: "C",
    DEBIAN_FRONTEND: "noninteractive",
  };
  for (const [name, value] of Object.entries(process.env)) {
    const wanted =
      /^(?:https?_proxy|no_proxy|all_proxy|ssl_cert_file|ssl_cert_dir|node_extra_ca_certs)$/i.test(
        name,
      ) || /^npm_config_/i.test(name);
    if (wanted && value !== undefined) environment[name] = value;
  }
  return environment;
}

/**
 * Downloads packages, and with `closure` all that they depend on, into `folder`, without installing
 * anything: apt is shown an empty list of installed packages. The package lists are fetched first when
 * the machine has none. @throws OperationError with apt's last output.
 */
export async function downloadPackages(
  exec: Exec,
  names: readonly string[],
  folder: string,
  options: { readonly closure: boolean; readonly signal?: AbortSignal },
): Promise<DebianPackage[]> {
  await mkdir(join(folder, "partial"), { recursive: true });
  const status = join(folder, "status");
  await writeFile(status, "");
  const settings = [
    "APT::Sandbox::User=root",
    "APT::Install-Recommends=false",
    `Dir::State::status=${status}`,
    `Dir::Cache::archives=${folder}/`,
    "Dir::Cache::pkgcache=",
    "Dir::Cache::srcpkgcache=",
  ].flatMap((setting) => ["-o", setting]);
  const command = options.closure ? ["-y", "--download-only", "install"] : ["download"];
  const run = (): Promise<RunResult> =>
    exec.tryRun("apt-get", [...settings, ...command, ...names], {
      ...runOptions(options.signal),
      cwd: folder,
    });
  let result = await run();
  if (result.exitCode !== 0) {
    await exec.run("apt-get", ["update"], runOptions(options.signal));
    result = await run();
  }
  if (result.exitCode !== 0) {
    const said = result.stderr.trim().split("\n").slice(-5).join(" | ");
    throw new OperationError(`apt-get cannot download ${names.join(", ")}: ${said}`, {
      hint: "check the package sources in /etc/apt and run `apt-get update`",
    });
  }
  return describePackages(exec, folder, options.signal);
}

/** The packages that name the newest kernel for virtual machines: Debian's, then Ubuntu's. */
const kernelMetaPackages: readonly string[] = ["linux-image-cloud-amd64", "linux-image-virtual"];

/**
 * The packages of the newest guest kernel: the kernel's own first, then that of its modules where it is
 * apart. @throws HostLacksError when apt knows none.
 */
export async function guestKernelPackages(exec: Exec, signal?: AbortSignal): Promise<string[]> {
  const found = (await findKernel(exec, signal)) ?? (await updateAndFindKernel(exec, signal));
  if (found === undefined) {
    throw new HostLacksError(`apt knows none of ${kernelMetaPackages.join(", ")}`, {
      hint: "mvm takes its guest kernel from Debian or Ubuntu: add a package source that has it",
    });
  }
  const modules = found.replace(/^linux-image-/, "linux-modules-");
  const { stdout } = await exec.tryRun("apt-cache", ["show", modules], runOptions(signal));
  return stdout.includes("Package:") ? [found, modules] : [found];
}

async function updateAndFindKernel(exec: Exec, signal?: AbortSignal): Promise<string | undefined> {
  await exec.run("apt-get", ["update"], runOptions(signal));
  return findKernel(exec, signal);
}

async function findKernel(exec: Exec, signal?: AbortSignal): Promise<string | undefined> {
  for (const meta of kernelMetaPackages) {
    const { stdout } = await exec.tryRun("apt-cache", ["depends", meta], runOptions(signal));
    const name = /Depends:\s+(linux-image-[a-z0-9.+-]+)/.exec(stdout)?.[1];
    if (name !== undefined) return name;
  }
  return undefined;
}

/** Unpacks packages over each other, without running any of their scripts. */
export async function unpackPackages(
  exec: Exec,
  packages: readonly DebianPackage[],
  folder: string,
  signal?: AbortSignal,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const { path } of packages) {
    await exec.run("dpkg-deb", ["-x", path, folder], {
      timeoutMs: unpackTimeoutMs,
      ...(signal === undefined ? {} : { signal }),
    });
  }
  await mergeUsr(folder);
}

/**
 * Gives the tree the layout of a system: files below /usr only, and links to there. Packages of Debian 12
 * and some of Ubuntu's still bring files outside of it.
 */
async function mergeUsr(folder: string): Promise<void> {
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    const [outside, inside] = [join(folder, name), join(folder, "usr", name)];
    if ((await entryAt(outside))?.isDirectory() === true) {
      await moveInto(outside, inside);
      await rm(outside, { recursive: true });
    }
    if ((await entryAt(inside))?.isDirectory() === true) await symlink(join("usr", name), outside);
  }
}

/** Moves what is in `source` into `target`, whose own files give way to it. */
async function moveInto(source: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true, mode: 0o755 });
  for (const entry of await readdir(source, { withFileTypes: true })) {
    const [from, to] = [join(source, entry.name), join(target, entry.name)];
    const there = await entryAt(to);
    if (entry.isDirectory() && there?.isDirectory() === true) await moveInto(from, to);
    // A link where there is a file of that name is the package's own link to there.
    else if (!entry.isSymbolicLink() || there === undefined) await rename(from, to);
  }
}

async function entryAt(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

async function describePackages(
  exec: Exec,
  folder: string,
  signal?: AbortSignal,
): Promise<DebianPackage[]> {
  const files = (await readdir(folder)).filter((name) => name.endsWith(".deb")).toSorted();
  const packages: DebianPackage[] = [];
  for (const file of files) {
    const path = join(folder, file);
    const { stdout } = await exec.run(
      "dpkg-deb",
      ["-W", "--showformat=${Package} ${Version}", path],
      runOptions(signal),
    );
    const [name = file, version = ""] = stdout.split(" ");
    packages.push({ name, version, sha256: await sha256OfFile(path, signal), path });
  }
  return packages;
}

function runOptions(signal: AbortSignal | undefined): {
  timeoutMs: number;
  env: Record<string, string>;
  signal?: AbortSignal;
} {
  return {
    timeoutMs: downloadTimeoutMs,
    env: networkEnvironment(),
    ...(signal === undefined ? {} : { signal }),
  };
}
