import { copyFile, mkdir, readdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { OperationError } from "../../domain/errors.ts";
import { sha256OfFile } from "../files.ts";
import { cloudKernelPackage, downloadPackages, unpackPackages } from "./packages.ts";
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

/** `vmlinuz`, `modules/*.ko` and `modules/order` from Debian's cloud kernel, which is not installed. */
export const kernelPayload: Payload = {
  name: "kernel",
  title: "guest kernel",
  recipe: () => Promise.resolve(`1 ${moduleOrder.join(" ")}`),
  make,
};

async function make(context: MakeContext): Promise<MadePayload> {
  const { exec, folder, workFolder, signal } = context;
  const name = await cloudKernelPackage(exec, signal);
  context.onProgress(`guest kernel: downloading ${name}`);
  const packages = await downloadPackages(exec, [name], join(workFolder, "debs"), {
    closure: false,
    ...(signal === undefined ? {} : { signal }),
  });
  const tree = join(workFolder, "tree");
  await unpackPackages(exec, packages, tree, signal);
  const release = name.replace(/^linux-image-/, "").replace(/-unsigned$/, "");
  await copyFile(join(tree, "boot", `vmlinuz-${release}`), join(folder, "vmlinuz"));

  const files = await readdir(join(tree, "lib", "modules", release), { recursive: true });
  const byName = new Map(
    files.filter((file) => file.endsWith(".ko")).map((file) => [basename(file, ".ko"), file]),
  );
  const order: string[] = [];
  await mkdir(join(folder, "modules"), { mode: 0o755 });
  for (const module of moduleOrder) {
    const file = byName.get(module);
    if (file === undefined) {
      if (!requiredModules.has(module)) continue;
      throw new OperationError(`kernel package ${name} has no module ${module}`);
    }
    await copyFile(
      join(tree, "lib", "modules", release, file),
      join(folder, "modules", `${module}.ko`),
    );
    order.push(`${module}.ko`);
  }
  await writeFile(join(folder, "modules", "order"), `${order.join("\n")}\n`);
  return {
    version: release,
    files: { vmlinuz: await sha256OfFile(join(folder, "vmlinuz"), signal) },
    packages,
  };
}
