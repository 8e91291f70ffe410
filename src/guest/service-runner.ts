import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describeError } from "../domain/errors.ts";
import type { ServiceReport } from "../protocol/guest-messages.ts";
import type { GuestService } from "../domain/guest-service.ts";
import { findAccount } from "./accounts.ts";
import type { GuestPaths } from "./guest-paths.ts";
import { probeService } from "./health-probe.ts";
import { signalGroup, startTicksOf } from "./process-group.ts";
import { ServiceLog } from "./service-log.ts";

export interface BackoffLimits {
  readonly minMs: number;
  readonly maxMs: number;
  /** A service that ran this long begins again with `minMs`. */
  readonly resetAfterMs: number;
}

export const serviceBackoff: BackoffLimits = { minMs: 1000, maxMs: 60_000, resetAfterMs: 60_000 };

/** A service that was never healthy for this long is no longer "starting". */
const maxStartingMs = 10 * 60 * 1000;

/** Keeps one service running until it is stopped. */
export class ServiceRunner {
  readonly service: GuestService;
  readonly #paths: GuestPaths;
  readonly #backoff: BackoffLimits;
  readonly #log: ServiceLog;
  #child: ChildProcess | undefined;
  #startedMs = 0;
  #wasHealthy = false;
  #stopping = false;
  #delayMs: number;
  #timer: NodeJS.Timeout | undefined;
  #detail = "not started yet";
  #restarts = 0;

  constructor(service: GuestService, paths: GuestPaths, backoff: BackoffLimits = serviceBackoff) {
    this.service = service;
    this.#paths = paths;
    this.#backoff = backoff;
    this.#delayMs = backoff.minMs;
    this.#log = new ServiceLog(paths.logs, service.name);
  }

  /** Process id while it runs. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** What an agent that died left running: it prints to nobody, and its health is not known. */
  endLeftover(): void {
    let text: string;
    try {
      text = readFileSync(this.#pidPath, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      throw error;
    }
    const [pid, ticks] = text.split(" ").map(Number);
    if (pid !== undefined && pid > 1 && startTicksOf(pid) === ticks) signalGroup(pid, "SIGKILL");
    rmSync(this.#pidPath, { force: true });
  }

  /** Says why it has not been started, for the health report. */
  hold(reason: string): void {
    this.#detail = reason;
  }

  async start(): Promise<void> {
    if (this.#stopping || this.#child !== undefined) return;
    try {
      const account = await findAccount(this.service.user, this.#paths.passwd);
      if (!this.#stopping) this.#spawn(account);
    } catch (error) {
      this.#ended(`cannot start: ${describeError(error)}`);
    }
  }

  /** SIGTERM to the process group, after `graceMs` SIGKILL. Resolves when the service is gone. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (child?.pid === undefined || hasEnded(child)) return;
    const pid = child.pid;
    const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    signalGroup(pid, "SIGTERM");
    const killer = setTimeout(() => signalGroup(pid, "SIGKILL"), graceMs);
    await gone;
    clearTimeout(killer);
    signalGroup(pid, "SIGKILL");
  }

  async report(): Promise<ServiceReport> {
    const { name } = this.service;
    if (this.#child === undefined) {
      const health = this.#restarts === 0 && this.#startedMs === 0 ? "starting" : "unhealthy";
      return { name, health, detail: this.#detail.slice(0, 500) };
    }
    const child = this.#child;
    const detail = await probeService(this.service);
    if (child !== this.#child) return await this.report();
    if (detail === undefined) {
      this.#wasHealthy = true;
      return { name, health: "healthy", detail: "" };
    }
    const starting = !this.#wasHealthy && performance.now() - this.#startedMs < maxStartingMs;
    return { name, health: starting ? "starting" : "unhealthy", detail: detail.slice(0, 500) };
  }

  get #pidPath(): string {
    return join(this.#paths.agentRun, `service-${this.service.name}.pid`);
  }

  #spawn(account: { name: string; uid: number; gid: number; home: string }): void {
    const [program = "", ...args] = this.service.command;
    this.#startedMs = performance.now();
    this.#wasHealthy = false;
    const child = spawn(program, args, {
      cwd: account.home,
      // Only root can become another user; in tests the agent is not always root.
      ...(process.getuid?.() === 0 ? { uid: account.uid, gid: account.gid } : {}),
      env: {
        PATH: "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin",
        HOME: account.home,
        USER: account.name,
        LOGNAME: account.name,
        ...this.service.env,
      },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    this.#child = child;
    if (child.pid !== undefined) this.#note(child.pid);
    const append = (bytes: Buffer): void => this.#log.append(bytes);
    child.stdout.on("data", append);
    child.stderr.on("data", append);
    child.once("error", (error) => {
      if (child.pid === undefined) this.#ended(`cannot start: ${error.message}`);
    });
    child.once("exit", (code, signal) => {
      // What it left of its group must not meet its successor.
      if (child.pid !== undefined) signalGroup(child.pid, "SIGKILL");
      rmSync(this.#pidPath, { force: true });
      // Its last words may still be in the pipe.
      setTimeout(() => {
        const how = code === null ? `ended by ${signal}` : `ended with exit code ${code}`;
        const last = this.#log.lastLine;
        this.#ended(last === "" ? how : `${how}; last line: ${last}`);
      }, 20);
    });
  }

  #note(pid: number): void {
    writeFileSync(this.#pidPath, `${pid} ${startTicksOf(pid) ?? 0}`);
    try {
      // The agent protects itself from the OOM killer; what it starts must not inherit that.
      if (process.getuid?.() === 0) writeFileSync(`/proc/${pid}/oom_score_adj`, "200");
    } catch (error) {
      if (!["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
    }
  }

  #ended(detail: string): void {
    this.#child = undefined;
    this.#detail = detail;
    if (this.#stopping) return;
    if (performance.now() - this.#startedMs >= this.#backoff.resetAfterMs) {
      this.#delayMs = this.#backoff.minMs;
    }
    this.#restarts += 1;
    this.#timer = setTimeout(() => void this.start(), this.#delayMs);
    this.#delayMs = Math.min(this.#delayMs * 2, this.#backoff.maxMs);
  }
}

/** Whether its exit was seen: nothing will tell of it again. */
function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
