import { copyFile, mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { OperationError } from "../../domain/errors.ts";
import type { Exec } from "../../ports/exec.ts";
import { readFileIfAny, sha256OfFile } from "../files.ts";
import { downloadPackages, guestKernelPackages, unpackPackages } from "./packages.ts";
import type { MadePayload, MakeContext, Payload } from "./prepare.ts";

/**
 * The drivers a guest may need, each after those it depends on. A name that this kernel does not have
 * is built in or not needed by it; a driver whose device is missing simply does not load.
 */
const moduleOrder: readonly string[] = [
  "virtio_ring",
  "virtio",
  "virtio_mmio",
  "virtio_pci_modern_dev",
  "virtio_pci_legacy_dev",
  "virtio_pci",
  "virtio_blk",
  "virtio_console",
  "failover",
  "net_failover",
  "virtio_net",
  "rng-core",
  "virtio-rng",
  "overlay",
  "zsmalloc",
  "lz4_compress",
  "lz4",
  "zram",
];

/** A guest is of no use without these. */
const requiredModules: ReadonlySet<string> = new Set([
  "virtio_blk",
  "virtio_console",
  "virtio_net",
  "overlay",
]);

const unpackTimeoutMs = 30_000;

/** `vmlinuz`, `modules/*.ko` and `modules/order` from the distribution's kernel, which is not installed. */
export const kernelPayload: Payload = {
  name: "kernel",
  title: "guest kernel",
  recipe: () => Promise.resolve(`1 ${moduleOrder.join(" ")}`),
  make,
};

async function make(context: MakeContext): Promise<MadePayload> {
  const { exec, folder, workFolder, signal } = context;
  const names = await guestKernelPackages(exec, signal);
  const [name = ""] = names;
  context.onProgress(`guest kernel: downloading ${name}`);
  const packages = await downloadPackages(exec, names, join(workFolder, "debs"), {
    closure: false,
    ...(signal === undefined ? {} : { signal }),
  });
  const tree = join(workFolder, "tree");
  await unpackPackages(exec, packages, tree, signal);
  const release = name.replace(/^linux-image-/, "").replace(/-unsigned$/, "");
  await copyFile(join(tree, "boot", `vmlinuz-${release}`), join(folder, "vmlinuz"));

  const source = join(tree, "lib", "modules", release);
  const files = await readdir(source, { recursive: true });
  const byName = new Map(
    files.filter((file) => moduleFile.test(file)).map((file) => [moduleName(file), file]),
  );
  const builtIn = new Set(
    ((await readFileIfAny(join(source, "modules.builtin"))) ?? "").split("\n").map(moduleName),
  );
  const order: string[] = [];
  await mkdir(join(folder, "modules"), { mode: 0o755 });
  for (const module of moduleOrder) {
    const file = byName.get(module);
    if (file === undefined) {
      if (!requiredModules.has(module) || builtIn.has(module)) continue;
      throw new OperationError(`kernel package ${name} has no module ${module}`);
    }
    await placeModule(exec, join(source, file), join(folder, "modules", `${module}.ko`));
    order.push(`${module}.ko`);
  }
  await writeFile(join(folder, "modules", "order"), `${order.join("\n")}\n`);
  return {
    version: release,
    files: { vmlinuz: await sha256OfFile(join(folder, "vmlinuz"), signal) },
    packages,
  };
}

const moduleFile = /\.ko(?:\.xz|\.zst)?$/;

function moduleName(file: string): string {
  return basename(file).replace(moduleFile, "");
}

/** Copies a module, unpacked: the guest's busybox loads plain ones only. @throws HostLacksError without xz, where it is needed. */
export async function placeModule(exec: Exec, source: string, target: string): Promise<void> {
  if (source.endsWith(".zst")) {
    await writeFile(target, zstdDecompressSync(await readFile(source)));
    return;
  }
  if (!source.endsWith(".xz")) {
    await copyFile(source, target);
    return;
  }
  await copyFile(source, `${target}.xz`);
  await exec.run("xz", ["--decompress", `${target}.xz`], { timeoutMs: unpackTimeoutMs });
}
