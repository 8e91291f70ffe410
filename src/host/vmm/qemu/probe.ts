import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { OperationError } from "../../../domain/errors.ts";
import type { Exec } from "../../../ports/exec.ts";
import { readFileIfAny } from "../../files.ts";
import { isAlive } from "../../processes.ts";
import { qemuProgram } from "./command-line.ts";
import type { QemuPlatform } from "./platform.ts";
import { QemuVmm } from "./qemu-vmm.ts";

const probeTimeoutMs = 25_000;
/** Two readings of the time stamp counter further apart than this are not believed. */
const maxTscDifference = 0.002;
/** The kernel says this when the first program has ended: then user space ran. */
const userSpaceRan = /Attempted to kill init!/;

export interface ProbeOptions {
  readonly kernelPath: string;
  readonly initrdPath: string;
  /** A short folder for sockets and logs of the probe guests. */
  readonly runDir: string;
  readonly uid: number;
  readonly exec: Exec;
  readonly onProgress: (line: string) => void;
}

/**
 * Finds how QEMU can run guests here, by booting one each way with a time limit: a KVM device that
 * opens says nothing about whether a guest runs.
 *
 * The `microvm` machine has no timer that a guest could calibrate its TSC against under load, so its
 * kernel must be told the rate. It is believed when the kernel of a q35 guest measures what
 * /proc/cpuinfo says; otherwise guests get the q35 machine, which is about a second slower to boot.
 *
 * @throws OperationError when no guest boots, with the last lines of its console.
 */
export async function probePlatform(options: ProbeOptions): Promise<QemuPlatform> {
  const qemuVersion = await readVersion(options.exec);
  const attempt = (platform: Omit<QemuPlatform, "qemuVersion">): Promise<string> =>
    bootProbe({ ...platform, qemuVersion }, options);

  const kvm = { accelerator: "kvm", machine: "microvm", tscKhz: null } as const;
  options.onProgress("booting a probe guest under KVM");
  if (userSpaceRan.test(await attempt(kvm))) return { ...kvm, qemuVersion };

  options.onProgress("KVM cannot run a guest here; booting one under software emulation");
  const q35 = { accelerator: "tcg", machine: "q35", tscKhz: null } as const;
  const console = await attempt(q35);
  if (!userSpaceRan.test(console)) {
    const tail = console.trim().split("\n").slice(-3).join(" | ");
    throw new OperationError(`no probe guest boots under QEMU on this machine: ${tail}`);
  }
  const tscKhz = agreedTscKhz(console, await readFile("/proc/cpuinfo", "utf8"));
  if (tscKhz === null) return { ...q35, qemuVersion };
  const microvm = { accelerator: "tcg", machine: "microvm", tscKhz } as const;
  options.onProgress("booting a probe guest of the microvm machine");
  return userSpaceRan.test(await attempt(microvm))
    ? { ...microvm, qemuVersion }
    : { ...q35, qemuVersion };
}

/** The TSC rate in kHz when guest kernel and /proc/cpuinfo agree on it, else null. */
export function agreedTscKhz(console: string, cpuinfo: string): number | null {
  const measured = Number(/tsc: Detected ([\d.]+) MHz/.exec(console)?.[1]) * 1000;
  const stated = Number(/^cpu MHz\s*: ([\d.]+)$/m.exec(cpuinfo)?.[1]) * 1000;
  if (!(Math.abs(measured - stated) / stated <= maxTscDifference)) return null;
  return Math.round(stated);
}

/** What a probe guest printed until it ended or its time was over. */
async function bootProbe(platform: QemuPlatform, options: ProbeOptions): Promise<string> {
  await mkdir(options.runDir, { recursive: true, mode: 0o700 });
  const folder = await mkdtemp(join(options.runDir, "probe-"));
  const vmm = new QemuVmm(async () => platform);
  try {
    const process = await vmm.start({
      id: "probe",
      runDir: folder,
      logDir: folder,
      uid: options.uid,
      vcpus: 1,
      memMib: 128,
      kernelPath: options.kernelPath,
      initrdPath: options.initrdPath,
      // The kernel hands what follows `--` to the first program.
      kernelArgs: ["rdinit=/bin/busybox", "--", "true"],
      drives: [],
      nics: [],
    });
    const deadlineMs = performance.now() + probeTimeoutMs;
    while ((await isAlive(process)) && performance.now() < deadlineMs) await delay(50);
    await vmm.stop(process, 0);
    return (await readFileIfAny(join(folder, "console.log"))) ?? "";
  } catch (error) {
    // A machine that QEMU refuses to start is an answer too: this way does not work here.
    if (error instanceof OperationError) return error.message;
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function readVersion(exec: Exec): Promise<string> {
  const { stdout } = await exec.run(qemuProgram, ["--version"], { timeoutMs: 10_000 });
  return /version ([^\s]+)/.exec(stdout)?.[1] ?? "unknown";
}
