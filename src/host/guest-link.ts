import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { ConflictError, OperationError } from "../domain/errors.ts";
import type { GuestLink, GuestSession } from "../ports/guest-link.ts";
import type { Vmm, VmmProcess } from "../ports/vmm.ts";
import { acquireFileLock } from "./file-lock.ts";
import type { FileLock } from "./file-lock.ts";
import { ChannelSession } from "./guest-link/channel-session.ts";
import { exchangeHello } from "./guest-link/hello.ts";
import { defaultGuestLinkLimits } from "./guest-link/limits.ts";
import type { GuestLinkLimits } from "./guest-link/limits.ts";
import { connectShared } from "./guest-link/shared-session.ts";
import { isErrno } from "./files.ts";
import { isAlive } from "./processes.ts";

/** In the run folder of a VMM: held by whoever talks to its guest. */
const lockName = "channel.lock";

/** Where those who talk to one guest find each other: one has the channel, and others may ask through that one. */
export interface GuestMeeting {
  /** Waits for the channel's turn, for `waitMs` at most. @throws ConflictError when another has it for longer. */
  turn(process: VmmProcess, waitMs: number, signal: AbortSignal | undefined): Promise<FileLock>;
  /** The socket by which others ask through a command that has the channel. */
  sharedSocket(process: VmmProcess): string;
}

/** In the run folder of the VMM, which goes with it. */
export const inRunFolder: GuestMeeting = {
  turn: acquireChannelLock,
  sharedSocket: ({ runDir }) => join(runDir, "channel.sock"),
};

/** Talks to guest agents over the byte channel of their VMM. */
export class HostGuestLink implements GuestLink {
  readonly #vmm: Pick<Vmm, "openChannel">;
  readonly #limits: GuestLinkLimits;
  readonly #meeting: GuestMeeting;

  /** `meeting` is where those who talk to one guest find each other. */
  constructor(
    vmm: Pick<Vmm, "openChannel">,
    limits: Partial<GuestLinkLimits> = {},
    meeting: GuestMeeting = inRunFolder,
  ) {
    this.#vmm = vmm;
    this.#limits = { ...defaultGuestLinkLimits, ...limits };
    this.#meeting = meeting;
  }

  /**
   * As `openForCommand`, but while a command holds the channel it speaks through that.
   * @throws as `openForCommand`.
   */
  async open(process: VmmProcess, timeoutMs: number, signal?: AbortSignal): Promise<GuestSession> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const remainingMs = Math.max(0, deadlineMs - performance.now());
      let lock: FileLock;
      try {
        const waitMs = Math.min(remainingMs, this.#limits.retryDelayMs);
        lock = await this.#meeting.turn(process, waitMs, signal);
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error;
        const session = await this.#openShared(process, signal);
        if (session !== undefined) return session;
        if (performance.now() >= deadlineMs) throw error;
        continue;
      }
      return await this.#openOrRelease(process, deadlineMs, lock, signal);
    }
  }

  /**
   * Waits for its turn, then for the agent, both within `timeoutMs`; a guest that boots is asked
   * again and again. The session must be closed, or others wait.
   * @throws ConflictError when another session lasts too long or versions differ; OperationError when the agent does
   * not answer, the VMM is gone, or it was interrupted.
   */
  async openForCommand(
    process: VmmProcess,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<GuestSession> {
    const deadlineMs = performance.now() + timeoutMs;
    const lock = await this.#meeting.turn(process, timeoutMs, signal);
    const session = await this.#openOrRelease(process, deadlineMs, lock, signal);
    try {
      await session.share(this.#meeting.sharedSocket(process));
    } catch (error) {
      session.close();
      throw error;
    }
    return session;
  }

  async #openOrRelease(
    process: VmmProcess,
    deadlineMs: number,
    lock: FileLock,
    signal: AbortSignal | undefined,
  ): Promise<ChannelSession> {
    try {
      return await this.#openLocked(process, deadlineMs, lock, signal);
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /** A session through the command that holds the channel; undefined when none does, or it has just ended. */
  async #openShared(
    process: VmmProcess,
    signal: AbortSignal | undefined,
  ): Promise<GuestSession | undefined> {
    const timeoutMs = this.#limits.helloTimeoutMs;
    let channel: Duplex | undefined;
    try {
      channel = await withinTime(timeoutMs, signal, (given) =>
        connectShared(this.#meeting.sharedSocket(process), given),
      );
      const greeting = await exchangeHello(channel, timeoutMs, signal);
      return new ChannelSession(channel, greeting, this.#limits, () => undefined);
    } catch (error) {
      channel?.destroy();
      if (!(error instanceof OperationError)) throw error;
      return undefined;
    }
  }

  async #openLocked(
    process: VmmProcess,
    deadlineMs: number,
    lock: FileLock,
    signal: AbortSignal | undefined,
  ): Promise<ChannelSession> {
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
        channel = await withinTime(timeoutMs, signal, (given) =>
          this.#vmm.openChannel(process, given),
        );
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
}

/** The signal ends with the opening: it must not close the channel of a session later. */
async function withinTime(
  timeoutMs: number,
  signal: AbortSignal | undefined,
  openChannel: (signal: AbortSignal) => Promise<Duplex>,
): Promise<Duplex> {
  const abort = new AbortController();
  const onAbort = (): void => abort.abort();
  const timer = setTimeout(onAbort, timeoutMs);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    return await openChannel(abort.signal);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
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
