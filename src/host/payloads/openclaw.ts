import { cp, lstat, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { patchOpenclaw, patchVersion } from "./openclaw-patch.ts";
import { checkPin, installFromLock, lockDigest, readPins } from "./pins.ts";
import type { MadePayload, MakeContext, Payload } from "./prepare.ts";

/** Changes whenever pruning or packing does, since the pinned content then changes too. */
const packing = "1";
const packTimeoutMs = 10 * 60_000;

/** Folders of native parts for other systems than the guest. */
const foreignFolders: ReadonlySet<string> = new Set([
  "darwin-arm64",
  "darwin-x64",
  "win32-arm64",
  "win32-x64",
  "musl_x64",
]);

/**
 * Packages no guest uses: type declarations, a desktop driver in a machine without a desktop, and a build
 * for another C library, which older npms install too and newer ones leave out.
 */
const unusedPackages: readonly string[] = [
  "@types",
  "@trycua/cua-driver-linux-x64-gnu",
  "@ubjs/node-linux-x64-musl",
];

/** `openclaw.tar`: the npm package and all it needs, pruned, packed the same way on every machine. */
export const openclawPayload: Payload = {
  name: "openclaw",
  title: "OpenClaw",
  recipe: async ({ projectDir }) => {
    const { openclaw } = await readPins(projectDir);
    return `${packing}.${patchVersion} ${openclaw.sha256} ${await lockDigest(projectDir, "openclaw")}`;
  },
  make,
};

async function make(context: MakeContext): Promise<MadePayload> {
  const { exec, folder, workFolder, projectDir, signal } = context;
  const { openclaw } = await readPins(projectDir);
  context.onProgress(`OpenClaw: downloading ${openclaw.version} and what it needs`);
  const install = join(workFolder, "openclaw");
  await cp(join(projectDir, "nix", "payloads", "openclaw"), install, { recursive: true });
  await installFromLock(exec, install, signal);

  context.onProgress("OpenClaw: pruning and packing");
  const modules = join(install, "node_modules");
  for (const name of unusedPackages) {
    await rm(join(modules, name), { recursive: true, force: true });
  }
  await prune(modules, false);
  await patchOpenclaw(join(modules, "openclaw"));
  const tar = join(folder, "openclaw.tar");
  await exec.run(
    "tar",
    [
      "--create",
      `--file=${tar}`,
      `--directory=${install}`,
      "--format=gnu",
      "--sort=name",
      "--mtime=@1",
      "--owner=0",
      "--group=0",
      "--numeric-owner",
      "--hard-dereference",
      // Modes as well must not hang on the umask of whoever prepares the host.
      "--mode=u=rwX,go=rX",
      "node_modules",
    ],
    { timeoutMs: packTimeoutMs, ...(signal === undefined ? {} : { signal }) },
  );
  await checkPin(tar, "openclaw", openclaw, signal);
  return {
    version: openclaw.version,
    files: { "openclaw.tar": openclaw.sha256 },
    packages: [],
  };
}

/** Removes what is not needed to run, below one folder. `inOpenclaw` spares its own documents, which it reads. */
async function prune(folder: string, inOpenclaw: boolean): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    const isFolder = (await lstat(path)).isDirectory();
    if (isFolder ? isUnusedFolder(name) : isUnusedFile(name, inOpenclaw)) {
      await rm(path, { recursive: true });
    } else if (isFolder) {
      await prune(path, inOpenclaw || name === "openclaw");
    }
  }
}

function isUnusedFolder(name: string): boolean {
  return name === ".bin" || foreignFolders.has(name);
}

function isUnusedFile(name: string, inOpenclaw: boolean): boolean {
  return (
    /\.(?:map|d\.[cm]?ts)$/.test(name) ||
    name === ".package-lock.json" ||
    // Tells OpenClaw to run its install scripts at its first start; their work does not apply here.
    name === ".openclaw-lifecycle-pending" ||
    (!inOpenclaw && /^(?:README|CHANGELOG|HISTORY)/i.test(name))
  );
}
