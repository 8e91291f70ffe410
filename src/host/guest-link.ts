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
    const lock = await acquireFileLock(join(process.runDir, lockName), {
      waitMs: timeoutMs,
      label: `talks to the guest of ${process.id}`,
      ...(signal === undefined ? {} : { signal }),
    });
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
          hint: `see what the guest printed: mvm logs ${process.id} --console`,
        });
      }
      let channel: Duplex | undefined;
      try {
        const timeoutMs = Math.min(this.#limits.helloTimeoutMs, remainingMs);
        channel = await this.#openChannel(process, timeoutMs, signal);
        const greeting = await exchangeHello(channel, timeoutMs, signal);
        return new ChannelSession(channel, greeting, this.#limits, () => {
          // Its descriptor is closed whatever happens; a close that fails has no more to say.
          lock.release().catch(() => undefined);
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
