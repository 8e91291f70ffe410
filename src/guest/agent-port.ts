import { open, readdir, readFile } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { HostLacksError } from "../domain/errors.ts";

const portsFolder = "/sys/class/virtio-ports";
const readBytes = 64 * 1024;
/** Above this many queued bytes a producer of output has to wait. */
const highWaterBytes = 512 * 1024;
const minPollMs = 20;
const maxPollMs = 200;
/** So many ends of file in a row, some 140 ms: half a frame will not be ended any more. A host waits 300 ms before it comes again. */
const silentEnds = 4;
/** So many, some 2.5 s, mean that the host has gone. Fewer may be a slow guest that learns late of the host before. */
const absentEnds = 15;

/** The byte stream to the host: a virtio-serial port, a file that is read and written. */
export interface ByteFile {
  read(buffer: Buffer): Promise<number>;
  write(bytes: Buffer): Promise<number>;
}

/**
 * Opens the virtio-serial port of this name (Linux: drivers/char/virtio_console.c), waiting a
 * little for the driver. Blocking reads cost nothing while a host is connected and idle.
 * @throws HostLacksError when there is none.
 */
export async function openVirtioPort(name: string): Promise<ByteFile> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const device = await findDevice(name);
    if (device !== undefined) return byteFileOf(await open(device, "r+"));
    await sleep(50);
  }
  throw new HostLacksError(`no virtio-serial port is named ${name}`);
}

async function findDevice(name: string): Promise<string | undefined> {
  const entries = await readdir(portsFolder).catch(() => []);
  for (const entry of entries) {
    const portName = await readFile(join(portsFolder, entry, "name"), "utf8").catch(() => "");
    if (portName.trim() === name) return join("/dev", entry);
  }
  return undefined;
}

function byteFileOf(file: FileHandle): ByteFile {
  return {
    read: async (buffer) => (await file.read(buffer, 0, buffer.length, null)).bytesRead,
    write: async (bytes) => (await file.write(bytes, 0, bytes.length, null)).bytesWritten,
  };
}

export interface PortEvents {
  onBytes(bytes: Buffer): void;
  /** No host has been connected for a moment: what was half received is void. */
  onSilence(): void;
  /** No host is connected any more: its session is over. */
  onDisconnect(): void;
}

/** Reads the port for as long as the guest lives, and writes frames to it in order. */
export class AgentPort {
  readonly #file: ByteFile;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #writing = false;
  #drainWaiters: (() => void)[] = [];

  constructor(file: ByteFile) {
    this.#file = file;
  }

  /** Ends only by an error of the device. */
  async readLoop(events: PortEvents): Promise<never> {
    let pollMs = minPollMs;
    let connected = false;
    let ends = 0;
    for (;;) {
      const buffer = Buffer.allocUnsafe(readBytes);
      const length = await this.#file.read(buffer);
      if (length > 0) {
        connected = true;
        ends = 0;
        pollMs = minPollMs;
        events.onBytes(buffer.subarray(0, length));
        continue;
      }
      // End of file here means that no host is connected, not that there will never be one. The driver
      // learns of a host that left after it has read what the next one sent, so one is not believed.
      ends += 1;
      if (connected && ends === silentEnds) events.onSilence();
      if (connected && ends === absentEnds) {
        connected = false;
        events.onDisconnect();
      }
      await sleep(pollMs);
      pollMs = Math.min(pollMs * 2, maxPollMs);
    }
  }

  /** Queues a frame. @returns false when the caller should wait for `drained` before it sends more. */
  send(frame: Buffer): boolean {
    this.#queue.push(frame);
    this.#queuedBytes += frame.length;
    if (!this.#writing) void this.#writeLoop();
    return this.#queuedBytes < highWaterBytes;
  }

  /** Resolves when the queue has room, or was dropped. */
  async drained(): Promise<void> {
    if (this.#queuedBytes < highWaterBytes) return;
    await new Promise<void>((resolve) => this.#drainWaiters.push(resolve));
  }

  /**
   * Drops what was not sent yet. A frame that was half written stays half written: the host drops
   * all bytes before the answer to its `Hello`.
   */
  dropQueue(): void {
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#wake();
  }

  async #writeLoop(): Promise<void> {
    this.#writing = true;
    try {
      let [frame] = this.#queue;
      while (frame !== undefined) {
        // The kernel takes at most 32 KiB at a time, and blocks while no host is connected.
        const written = await this.#file.write(frame);
        // Only when the queue was not dropped meanwhile.
        if (this.#queue[0] === frame) {
          this.#queuedBytes -= written;
          if (written === frame.length) this.#queue.shift();
          else this.#queue[0] = frame.subarray(written);
        }
        if (this.#queuedBytes < highWaterBytes) this.#wake();
        [frame] = this.#queue;
      }
    } finally {
      this.#writing = false;
    }
  }

  #wake(): void {
    const waiters = this.#drainWaiters;
    this.#drainWaiters = [];
    for (const waiter of waiters) waiter();
  }
}
