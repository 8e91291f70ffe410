import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { OperationError } from "../domain/errors.ts";
import type { Exec } from "../ports/exec.ts";
import type { Vmm, VmmProcess } from "../ports/vmm.ts";
import { BuilderConsole } from "./builder-console.ts";
import { makeExt4, makeScratchDisk } from "./ext4.ts";
import type { ImagePlaces } from "./guest-image.ts";
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
const pollMs = 250;
const pollsPerLifeCheck = 8;
const powerOffGraceMs = 5000;

/**
 * Runs one build in a microVM that has nothing but its drives: no network, no agent. Answers the path of
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
        { id: "output", path: drive("output"), readOnly: false },
      ],
      nics: [],
    },
    options.signal,
  );
  try {
    await watch(options, process);
  } finally {
    await options.vmm.stop(process, 0);
  }
  return drive("output");
}

async function watch(options: BuilderVmOptions, process: VmmProcess): Promise<void> {
  const console = new BuilderConsole(join(options.logDir, "console.log"), options.onProgress);
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
    if (polls % pollsPerLifeCheck === 0 && !(await isRunning(options, process))) {
      await console.poll();
      if (console.exitCode !== undefined) break;
      const last = console.lines.slice(-3).join(" | ");
      throw new OperationError(`the builder microVM ended by itself: ${last}`);
    }
  }
  if (console.exitCode !== 0) {
    const derivation = console.failedDerivation;
    const error = console.error ?? console.lines.slice(-3).join(" | ");
    throw new OperationError(
      derivation === undefined ? error : `derivation ${derivation} failed: ${error}`,
    );
  }
  // It wrote its output and powers off; what it had not yet flushed is flushed by then.
  await options.vmm.stop(process, powerOffGraceMs);
}

async function isRunning(options: BuilderVmOptions, process: VmmProcess): Promise<boolean> {
  const found = await options.vmm.list(join(options.runDir, ".."));
  return found.some(({ pid, startTicks }) => {
    return pid === process.pid && startTicks === process.startTicks;
  });
}
