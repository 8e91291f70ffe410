import type { InstanceAddress } from "../domain/ids.ts";
import type { VmmProcess } from "./vmm.ts";

/** What a process has taken of the host. */
export interface ProcessUse {
  /** On all CPUs, since it began. */
  readonly cpu_seconds: number;
  /** Of its memory, what is in the host's now: a guest's pages count once they were touched. */
  readonly resident_mib: number;
}

/** A data disk: what the guest sees, and what it takes of the host's disk. */
export interface DiskUse {
  readonly size_mib: number;
  readonly allocated_mib: number;
}

/** Bytes that went through an instance's network port, as the guest counts them. */
export interface Traffic {
  readonly received_bytes: number;
  readonly sent_bytes: number;
}

export interface HostUse {
  readonly vcpus: number;
  /** Processes that ran or waited for a CPU, on the average of the last minute. */
  readonly load_1m: number;
  readonly memory_total_mib: number;
  readonly memory_available_mib: number;
  /** Of the file system that the state folder is on. */
  readonly disk_total_mib: number;
  readonly disk_free_mib: number;
}

/** Measures what things take of this host. Each answers undefined when there is no such thing. */
export interface Meters {
  process(process: VmmProcess): Promise<ProcessUse | undefined>;
  dataDisk(instance: InstanceAddress): Promise<DiskUse | undefined>;
  traffic(tap: string): Promise<Traffic | undefined>;
  host(): Promise<HostUse>;
}
