import { statfs, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { OperationError } from "../domain/errors.ts";
import type { BuilderLink } from "../ports/builder-network.ts";
import type { Exec } from "../ports/exec.ts";
import type { Vmm, VmmProcess } from "../ports/vmm.ts";
import { BuilderConsole } from "./builder-console.ts";
import { makeExt4, makeScratchDisk } from "./ext4.ts";
import type { ImagePlaces } from "./guest-image.ts";
import type { StoreDisk } from "./store-disk.ts";
import { writeInitramfs } from "./initramfs.ts";

export interface BuilderVmOptions {
  readonly vmm: Vmm;
  readonly exec: Exec;
  readonly places: ImagePlaces;
  readonly buildId: string;
  /** Made by the caller; the drives are made in it. */
  readonly workFolder: string;
  /** What becomes the input drive. */
  readonly inputTree: string;
  readonly runDir: string;
  readonly logDir: string;
  readonly uid: number;
  readonly timeoutMs: number;
  /** The builder's way outside, when it may have one. */
  readonly link?: BuilderLink;
  /** The Nix store it works in, when that is not to go with the build. */
  readonly store?: StoreDisk;
  readonly signal?: AbortSignal;
  readonly onProgress: (line: string) => void;
}

const vcpus = 2;
const memMib = 2048;
/** All that a build prints is read from its console: no sensible one prints more. */
const keptConsoleBytes = 32 * 1024 * 1024;
/** Both are sparse: they take what the build writes. */
const scratchBytes = 16 * 1024 ** 3;
const outputBytes = 8 * 1024 ** 3;
/** Below this the host itself is in danger, and the guest's disks would fail in the middle of a write. */
const leastFreeBytes = 256 * 1024 ** 2;
/** What Nix says when it has to fetch something and cannot. */
const lacksNetwork =
  /unable to (?:download|fetch)|resolve host|cannot be (?:fetched|substituted)|not valid in offline|network is (?:down|unreachable)/i;
const pollMs = 250;
const pollsPerLifeCheck = 8;
const powerOffGraceMs = 5000;

/**
 * Runs one build in a microVM that has its drives, no agent, and a network only by `link`. Answers the path of
 * the output drive, whose bytes nobody vouches for. The VMM is gone when this returns or throws.
 * @throws OperationError that names the derivation which failed, or the last lines of the console.
 */
export async function runBuilder(options: BuilderVmOptions): Promise<string> {
  const { places, workFolder } = options;
  const signalOption = options.signal === undefined ? {} : { signal: options.signal };
  const drive = (name: string): string => join(workFolder, `${name}.img`);
  await makeExt4({
    exec: options.exec,
    tree: options.inputTree,
    image: drive("input"),
    label: "mvm-input",
    ...signalOption,
  });
  await makeScratchDisk(options.exec, drive("scratch"), scratchBytes, options.signal);
  await writeFile(drive("output"), "", { mode: 0o600 });
  await truncate(drive("output"), outputBytes);
  const initrd = join(workFolder, "initrd");
  await writeInitramfs(initrd, {
    busybox: join(places.payloads, "base", "tree", "bin", "busybox"),
    modulesFolder: join(places.payloads, "kernel", "modules"),
    programs: {
      init: join(places.project, "nix", "builder", "init"),
      build: join(places.project, "nix", "builder", "build"),
    },
  });
  options.onProgress("starting the builder microVM");
  const process = await options.vmm.start(
    {
      id: options.buildId,
      runDir: options.runDir,
      logDir: options.logDir,
      keptConsoleBytes,
      uid: options.uid,
      vcpus,
      memMib,
      kernelPath: join(places.payloads, "kernel", "vmlinuz"),
      initrdPath: initrd,
      kernelArgs: ["quiet"],
      drives: [
        { id: "root", path: join(places.payloads, "builder", "root.ext4"), readOnly: true },
        { id: "scratch", path: drive("scratch"), readOnly: false },
        { id: "input", path: drive("input"), readOnly: true },
        ...(options.store === undefined
          ? []
          : [{ id: "store", path: options.store.path, readOnly: false }]),
        { id: "output", path: drive("output"), readOnly: false },
      ],
      nics: options.link === undefined ? [] : [{ tap: options.link.tap, mac: options.link.mac }],
    },
    options.signal,
  );
  const console = new BuilderConsole(join(options.logDir, "console.log"), options.onProgress);
  try {
    await watch(options, process, console);
  } finally {
    await options.vmm.stop(process, 0);
    // A builder that said how it ended has let go of its disks, also after a build that failed.
    if (console.exitCode !== undefined && !console.storeBroken) await options.store?.keep();
  }
  return drive("output");
}

async function watch(
  options: BuilderVmOptions,
  process: VmmProcess,
  console: BuilderConsole,
): Promise<void> {
  const deadlineMs = performance.now() + options.timeoutMs;
  for (let polls = 1; console.exitCode === undefined; polls += 1) {
    await delay(pollMs, undefined, options.signal === undefined ? {} : { signal: options.signal });
    await console.poll();
    if (console.exitCode !== undefined) break;
    if (performance.now() >= deadlineMs) {
      throw new OperationError(
        `it did not end within ${Math.round(options.timeoutMs / 1000)} s; last: ${console.lines.at(-1) ?? "nothing"}`,
      );
    }
    if (polls % pollsPerLifeCheck !== 0) continue;
    if (console.bytesRead > keptConsoleBytes) {
      throw new OperationError(`it printed more than ${keptConsoleBytes} bytes`);
    }
    await requireFree(options.workFolder, leastFreeBytes);
    if (!(await isRunning(options, process))) {
      await console.poll();
      if (console.exitCode !== undefined) break;
      const last = console.lines.slice(-3).join(" | ");
      throw new OperationError(`the builder microVM ended by itself: ${last}`);
    }
  }
  if (console.exitCode !== 0) {
    const derivation = console.failedDerivation;
    const error = console.outOfMemory
      ? `it needed more than the ${memMib} MiB of memory of a builder`
      : (console.error ?? console.lines.slice(-3).join(" | "));
    throw new OperationError(
      derivation === undefined ? error : `derivation ${derivation} failed: ${error}`,
      options.link === undefined && lacksNetwork.test(error)
        ? { hint: "this builder had no network; allow it one: mvm pool build <pool> --network" }
        : {},
    );
  }
  // It wrote its output and powers off; what it had not yet flushed is flushed by then.
  await options.vmm.stop(process, powerOffGraceMs);
}

/** @throws OperationError when a folder's file system has less room. */
export async function requireFree(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize >= bytes) return;
  const mib = (count: number): number => Math.floor(count / 1024 ** 2);
  throw new OperationError(
    `no space left: ${folder} has ${mib(bavail * bsize)} MiB free and a build needs ${mib(bytes)} MiB`,
    { hint: "make room, or move MVM_STATE_DIR to a larger disk, and build again" },
  );
}

async function isRunning(options: BuilderVmOptions, process: VmmProcess): Promise<boolean> {
  const found = await options.vmm.list(join(options.runDir, ".."));
  return found.some(({ pid, startTicks }) => {
    return pid === process.pid && startTicks === process.startTicks;
  });
}
