import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sha256OfFile } from "../files.ts";
import { downloadPackages, unpackPackages } from "./packages.ts";
import type { MadePayload, MakeContext, Payload } from "./prepare.ts";

const packageNames = ["nix-bin", "git", "tar", "e2fsprogs", "busybox-static", "ca-certificates"];
const makeTimeoutMs = 5 * 60_000;
const uuid = "6d766d00-0000-4000-8000-00006275696c";

/** `root.ext4`: the read-only root of the builder microVM, with Nix in it. */
export const builderPayload: Payload = {
  name: "builder",
  title: "builder",
  recipe: async ({ projectDir }) => {
    const config = await readFile(join(projectDir, "nix", "builder", "nix.conf"));
    return `1 ${packageNames.join(" ")} ${createHash("sha256").update(config).digest("hex")}`;
  },
  make,
};

async function make(context: MakeContext): Promise<MadePayload> {
  const { exec, folder, workFolder, projectDir, signal } = context;
  const signalOption = signal === undefined ? {} : { signal };
  context.onProgress("builder: downloading Nix");
  const packages = await downloadPackages(exec, packageNames, join(workFolder, "debs"), {
    closure: true,
    ...signalOption,
  });
  const tree = join(workFolder, "tree");
  await unpackPackages(exec, packages, tree, signal);
  for (const name of ["doc", "man", "locale", "info", "lintian", "bug"]) {
    await rm(join(tree, "usr", "share", name), { recursive: true, force: true });
  }
  for (const name of ["proc", "sys", "dev", "tmp", "run", "nix", "mvm", "etc/nix"]) {
    await mkdir(join(tree, name), { recursive: true });
  }
  await copyFile(join(projectDir, "nix", "builder", "nix.conf"), join(tree, "etc/nix/nix.conf"));
  await writeFile(join(tree, "etc/nix/registry.json"), '{"version":2,"flakes":[]}\n');
  await writeFile(join(tree, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
  await writeFile(join(tree, "etc/group"), "root:x:0:\n");
  await symlink("busybox", join(tree, "bin", "sh"));

  const root = join(folder, "root.ext4");
  await exec.run(
    "mkfs.ext4",
    [
      "-q",
      "-F",
      "-m0",
      `-U${uuid}`,
      "-O^has_journal,^resize_inode",
      `-Ehash_seed=${uuid},lazy_itable_init=0,nodiscard,root_owner=0:0`,
      "-d",
      tree,
      root,
      "320M",
    ],
    { timeoutMs: makeTimeoutMs, ...signalOption },
  );
  const nix = packages.find((item) => item.name === "nix-bin");
  return {
    version: `nix ${nix?.version ?? "unknown"}`,
    files: { "root.ext4": await sha256OfFile(root, signal) },
    packages,
  };
}
