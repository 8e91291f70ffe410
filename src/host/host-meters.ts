import { readFile, statfs } from "node:fs/promises";
import { availableParallelism, loadavg } from "node:os";
import type { InstanceAddress } from "../domain/ids.ts";
import type { DiskUse, HostUse, Meters, ProcessUse, Traffic } from "../ports/meters.ts";
import type { VmmProcess } from "../ports/vmm.ts";
import { statIfAny } from "./files.ts";
import { isAlive, processUse } from "./processes.ts";
import { type Roots, dataDiskPath } from "./roots.ts";

const mib = 1024 ** 2;
/** The unit of `st_blocks`, whatever the file system's own; see stat(2). */
const blockBytes = 512;

/** Reads /proc and the file systems of a Linux host. */
export class HostMeters implements Meters {
  readonly #roots: Roots;

  constructor(roots: Roots) {
    this.#roots = roots;
  }

  async process(process: VmmProcess): Promise<ProcessUse | undefined> {
    const use = await processUse(process.pid);
    // Asked after: a pid that was given to another process meanwhile does not count.
    if (use === undefined || !(await isAlive(process))) return undefined;
    return { cpu_seconds: use.cpuSeconds, resident_mib: Math.round(use.residentKib / 1024) };
  }

  async dataDisk(instance: InstanceAddress): Promise<DiskUse | undefined> {
    const disk = await statIfAny(dataDiskPath(this.#roots, instance));
    if (disk === undefined) return undefined;
    return {
      size_mib: Math.round(disk.size / mib),
      allocated_mib: Math.round((disk.blocks * blockBytes) / mib),
    };
  }

  async traffic(tap: string): Promise<Traffic | undefined> {
    return trafficOf(await readFile("/proc/net/dev", "utf8"), tap);
  }

  async host(): Promise<HostUse> {
    const { blocks, bavail, bsize } = await statfs(this.#roots.stateDir);
    const memory = await readFile("/proc/meminfo", "utf8");
    return {
      vcpus: availableParallelism(),
      load_1m: loadavg()[0] ?? 0,
      memory_total_mib: Math.floor(kibOf(memory, "MemTotal") / 1024),
      memory_available_mib: Math.floor(kibOf(memory, "MemAvailable") / 1024),
      disk_total_mib: Math.floor((blocks * bsize) / mib),
      disk_free_mib: Math.floor((bavail * bsize) / mib),
    };
  }
}

/** The counters of an interface in the text of /proc/net/dev; see proc_net(5). What the host receives from a TAP is what its guest sent. */
export function trafficOf(text: string, tap: string): Traffic | undefined {
  const line = text.split("\n").find((candidate) => candidate.trimStart().startsWith(`${tap}:`));
  const counters = line
    ?.slice(line.indexOf(":") + 1)
    .trim()
    .split(/\s+/)
    .map(Number);
  if (counters === undefined) return undefined;
  return { received_bytes: counters[8] ?? 0, sent_bytes: counters[0] ?? 0 };
}

function kibOf(meminfo: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(meminfo)?.[1] ?? 0);
}
