import { HostLacksError, OperationError, describeError } from "../domain/errors.ts";
import type { Exec } from "../ports/exec.ts";
import type { ServiceManager } from "../ports/service-manager.ts";

const notifyTimeoutMs = 5000;

/**
 * systemd, by sd_notify(3). Node has no datagram sockets of the Unix kind, so systemd's own program speaks
 * for this process: its unit needs `NotifyAccess=all`.
 */
export class SystemdManager implements ServiceManager {
  readonly watchdogMs: number | undefined;
  readonly #exec: Exec;
  readonly #env: Readonly<Record<string, string>>;
  readonly #isWatched: boolean;
  readonly #onProblem: (line: string) => void;

  constructor(
    exec: Exec,
    env: Readonly<Record<string, string | undefined>>,
    onProblem: (line: string) => void,
  ) {
    this.#exec = exec;
    this.#onProblem = onProblem;
    const socket = env["NOTIFY_SOCKET"];
    this.#isWatched = socket !== undefined;
    this.#env = { PATH: env["PATH"] ?? "/usr/bin:/bin", NOTIFY_SOCKET: socket ?? "" };
    const microseconds = Number(env["WATCHDOG_USEC"] ?? "");
    this.watchdogMs =
      this.#isWatched && Number.isFinite(microseconds) && microseconds > 0
        ? microseconds / 1000
        : undefined;
  }

  async ready(status: string): Promise<void> {
    await this.#tell("--ready", `--status=${status}`);
  }

  async stopping(): Promise<void> {
    await this.#tell("STOPPING=1");
  }

  async alive(): Promise<void> {
    await this.#tell("WATCHDOG=1");
  }

  /** A word that does not arrive is no reason to end: who misses it does what it must. */
  async #tell(...words: string[]): Promise<void> {
    if (!this.#isWatched) return;
    try {
      await this.#exec.run("systemd-notify", [`--pid=${process.pid}`, ...words], {
        timeoutMs: notifyTimeoutMs,
        env: this.#env,
      });
    } catch (error) {
      if (!(error instanceof OperationError) && !(error instanceof HostLacksError)) throw error;
      this.#onProblem(`systemd was not told ${words[0]}: ${describeError(error)}`);
    }
  }
}
