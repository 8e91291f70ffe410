import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { OperationError } from "../domain/errors.ts";
import type { GuestLink, GuestSession } from "../ports/guest-link.ts";
import type { Vmm, VmmProcess } from "../ports/vmm.ts";
import { acquireFileLock } from "./file-lock.ts";
import type { FileLock } from "./file-lock.ts";
import { ChannelSession } from "./guest-link/channel-session.ts";
import { exchangeHello } from "./guest-link/hello.ts";
import { defaultGuestLinkLimits } from "./guest-link/limits.ts";
import type { GuestLinkLimits } from "./guest-link/limits.ts";
import { isErrno } from "./files.ts";
import { isAlive } from "./processes.ts";

/** In the run folder of a VMM: held by whoever talks to its guest. */
const lockName = "channel.lock";

/** Talks to guest agents over the byte channel of their VMM. */
export class HostGuestLink implements GuestLink {
  readonly #vmm: Pick<Vmm, "openChannel">;
  readonly #limits: GuestLinkLimits;

  constructor(vmm: Pick<Vmm, "openChannel">, limits: Partial<GuestLinkLimits> = {}) {
    this.#vmm = vmm;
    this.#limits = { ...defaultGuestLinkLimits, ...limits };
  }

  /**
   * Waits for its turn, then for the agent, both within `timeoutMs`; a guest that boots is asked
   * again and again. The session must be closed, or others wait.
   * @throws ConflictError when another session lasts too long or versions differ; OperationError when the agent does
   * not answer, the VMM is gone, or it was interrupted.
   */
  async open(process: VmmProcess, timeoutMs: number, signal?: AbortSignal): Promise<GuestSession> {
    const deadlineMs = performance.now() + timeoutMs;
    const lock = await acquireChannelLock(process, timeoutMs, signal);
    try {
      return await this.#openLocked(process, deadlineMs, lock, signal);
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  async #openLocked(
    process: VmmProcess,
    deadlineMs: number,
    lock: FileLock,
    signal: AbortSignal | undefined,
  ): Promise<GuestSession> {
    let lastError: unknown;
    for (;;) {
      if (signal?.aborted === true) throw new OperationError("interrupted", { cause: lastError });
      if (!(await isAlive(process))) {
        throw new OperationError(`the VMM of ${process.id} has ended`, { cause: lastError });
      }
      const remainingMs = deadlineMs - performance.now();
      if (remainingMs <= 0) {
        throw new OperationError(`the guest agent of ${process.id} does not answer`, {
          cause: lastError,
          hint: `see what the guest printed: mvm instance logs ${process.id} --console`,
        });
      }
      let channel: Duplex | undefined;
      try {
        const timeoutMs = Math.min(this.#limits.helloTimeoutMs, remainingMs);
        channel = await this.#openChannel(process, timeoutMs, signal);
        const greeting = await exchangeHello(channel, timeoutMs, signal);
        return new ChannelSession(channel, greeting, this.#limits, () => {
          void releaseQuietly(lock);
        });
      } catch (error) {
        channel?.destroy();
        if (!(error instanceof OperationError)) throw error;
        lastError = error;
      }
      await sleep(this.#limits.retryDelayMs);
    }
  }

  /** The signal ends with the opening: it must not close the channel of a session later. */
  async #openChannel(
    process: VmmProcess,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<Duplex> {
    const abort = new AbortController();
    const onAbort = (): void => abort.abort();
    const timer = setTimeout(onAbort, timeoutMs);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      return await this.#vmm.openChannel(process, abort.signal);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }
}

/** @throws OperationError when there is no run folder, and as `acquireFileLock` does. */
async function acquireChannelLock(
  process: VmmProcess,
  waitMs: number,
  signal: AbortSignal | undefined,
): Promise<FileLock> {
  try {
    return await acquireFileLock(join(process.runDir, lockName), {
      waitMs,
      label: `talks to the guest of ${process.id}`,
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
    throw new OperationError(`the VMM of ${process.id} has no run folder`, { cause: error });
  }
}

async function releaseQuietly(lock: FileLock): Promise<void> {
  try {
    await lock.release();
  } catch (error) {
    // close(2): the descriptor is closed all the same, and with it the lock has gone.
    if (!isErrno(error, "EIO")) throw error;
  }
}
