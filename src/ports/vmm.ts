import type { Duplex } from "node:stream";
import type { Machine } from "../domain/machine.ts";

/** What a driver can do. Everything outside `host/vmm` asks this and never which VMM it is. */
export interface VmmCapabilities {
  readonly memorySnapshot: boolean;
  readonly lazyRestore: boolean;
  readonly vsock: boolean;
  readonly jail: boolean;
  readonly driveHotSwap: boolean;
}

export interface DriveSpec {
  /** 1 to 20 of [a-z0-9-]; the guest finds the drive by it (`/sys/block/vd?/serial`). */
  readonly id: string;
  /** A raw image file. */
  readonly path: string;
  readonly readOnly: boolean;
}

export interface NicSpec {
  /** A TAP that exists already. */
  readonly tap: string;
  readonly mac: string;
}

export interface VmmSpec {
  /** Unique on the node: an instance id or a build id. A running VMM can be found again by it. */
  readonly id: string;
  /** Sockets are made here; the longest is runDir + 20 bytes and must stay under 108. */
  readonly runDir: string;
  /** `console.log` (what the guest prints) and `vmm.log` (what the VMM prints) are written here, at most twice `keptConsoleBytes` of each: beyond that, the beginning goes. */
  readonly logDir: string;
  /** How much of the end of each log stays at least. Default 256 KiB. */
  readonly keptConsoleBytes?: number;
  /** The unprivileged user and group the VMM runs as. */
  readonly uid: number;
  readonly vcpus: number;
  readonly memMib: number;
  readonly kernelPath: string;
  readonly initrdPath: string;
  /** Added to what the driver itself needs on the kernel command line. */
  readonly kernelArgs: readonly string[];
  readonly drives: readonly DriveSpec[];
  readonly nics: readonly NicSpec[];
  /** What all of this follows from, for the VMM of an instance: where another process has the privileges to start it, it is told no more. */
  readonly machine?: Machine;
}

/** A VMM that was started. Plain data: it is kept in state files and checked before it is trusted. */
export interface VmmProcess {
  readonly id: string;
  readonly runDir: string;
  readonly pid: number;
  /** Start time in clock ticks since boot, `/proc/<pid>/stat` field 22: with the pid it is unique. */
  readonly startTicks: number;
}

/** Starts and steers virtual machine monitors. All calls have time limits of their own. */
export interface Vmm {
  readonly capabilities: VmmCapabilities;
  /** Starts a VMM; answers once its vCPUs run (the guest may still be booting). @throws OperationError with the last lines the VMM or guest printed. */
  start(spec: VmmSpec, signal?: AbortSignal): Promise<VmmProcess>;
  /** Every living VMM whose run folder lies below `runRoot`, whoever started it and whether or not a state file knows it. */
  list(runRoot: string): Promise<VmmProcess[]>;
  /** Stops the vCPUs and keeps memory. Doing it to a paused VM is no error. */
  pause(process: VmmProcess): Promise<void>;
  /** Lets the vCPUs run. Doing it to a running VM is no error. */
  resume(process: VmmProcess): Promise<void>;
  /** Waits `graceMs` for the VMM to end by itself (the guest was asked to power off), then kills it. Answers when the process is gone; one that is gone already is no error. */
  stop(process: VmmProcess, graceMs: number): Promise<void>;
  /** Opens the byte channel to the guest agent. The caller is its only user until it is destroyed. @throws OperationError when the VMM does not answer. */
  openChannel(process: VmmProcess, signal?: AbortSignal): Promise<Duplex>;
}
