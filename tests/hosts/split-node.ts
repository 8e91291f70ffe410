import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { handOver } from "../../src/host/setup/hand-over.ts";
import type { StateOwner } from "../../src/host/state-owner.ts";
import { type MvmResult, type TestRoots, projectDir } from "../test-host.ts";
import { NetNamespace } from "./net-namespace.ts";

const mvm = join(projectDir, "bin", "mvm");
/** A user and a group that no machine has. */
export const agentd: StateOwner = { uid: 917_001, gid: 917_002 };
/** Another user, of whom hostd wants nothing. */
export const stranger: StateOwner = { uid: 917_003, gid: 917_003 };
const startMs = 20_000;

/** A program as a user without any privilege, and without a way to any. */
export function asUser(owner: StateOwner, program: string, args: readonly string[]): string[] {
  return [
    "setpriv",
    `--reuid=${owner.uid}`,
    `--regid=${owner.gid}`,
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--no-new-privs",
    program,
    ...args,
  ];
}

/** What the unit leaves hostd of root's capabilities: so it is tried whether they are enough. */
async function unitCapabilities(): Promise<string> {
  const unit = await readFile(join(projectDir, "deploy/systemd/mvm-hostd.service"), "utf8");
  const names = /^CapabilityBoundingSet=(.+)$/m.exec(unit)?.[1]?.split(" ") ?? [];
  if (names.length === 0) throw new Error("the unit of hostd bounds no capabilities");
  return names.map((name) => `+${name.replace(/^CAP_/, "").toLowerCase()}`).join(",");
}

/** A command that goes on until a test ends it. */
export class RunningCommand {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #said = "";

  constructor(child: ChildProcess) {
    this.#child = child;
    this.#ended = once(child, "exit");
    child.stderr?.on("data", (bytes: Buffer) => {
      this.#said += bytes.toString("utf8");
    });
  }

  /** Waits until it says what matches. */
  async says(pattern: RegExp, timeoutMs: number = startMs): Promise<string> {
    const deadlineMs = Date.now() + timeoutMs;
    for (;;) {
      const found = pattern.exec(this.#said)?.[0];
      if (found !== undefined) return found;
      if (this.#child.exitCode !== null || Date.now() > deadlineMs) {
        throw new Error(`it did not say ${pattern.source}: ${this.#said}`);
      }
      await delay(20);
    }
  }

  /** @returns its exit code; null when a signal ended it. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    this.#child.kill(signal);
    await this.#ended;
    return this.#child.exitCode;
  }
}

/** A node of a test's own whose records are another user's, with a hostd in a network namespace. */
export class SplitNode implements AsyncDisposable {
  readonly roots: TestRoots;
  readonly namespace: NetNamespace;
  /** What hostd said of itself so far. */
  notes = "";
  #hostd: ChildProcess | undefined;

  private constructor(roots: TestRoots, namespace: NetNamespace) {
    this.roots = roots;
    this.namespace = namespace;
  }

  static async make(roots: TestRoots, label: string): Promise<SplitNode> {
    const node = new SplitNode(roots, await NetNamespace.make(label));
    await handOver(roots, agentd);
    await node.startHostd();
    return node;
  }

  get socket(): string {
    return join(this.roots.runDir, "hostd.sock");
  }

  get hostdPid(): number {
    const pid = this.#hostd?.pid;
    if (pid === undefined) throw new Error("hostd does not run");
    return pid;
  }

  /** Starts hostd and waits until it listens. */
  async startHostd(env: Readonly<Record<string, string>> = {}): Promise<void> {
    const bounds = await unitCapabilities();
    const [program, args] = this.namespace.command("setpriv", [
      `--bounding-set=-all,${bounds}`,
      "--no-new-privs",
      mvm,
      "hostd",
      "serve",
    ]);
    const child = spawn(program, args, {
      env: { ...process.env, ...this.roots.env, ...env },
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#hostd = child;
    const from = this.notes.length;
    const listening = Promise.withResolvers<void>();
    child.stderr.on("data", (bytes: Buffer) => {
      this.notes += bytes.toString("utf8");
      if (this.notes.slice(from).includes("listening at")) listening.resolve();
    });
    child.once("exit", () => listening.reject(new Error(`hostd ended: ${this.notes.slice(from)}`)));
    const timer = setTimeout(
      () => listening.reject(new Error(`hostd does not listen: ${this.notes.slice(from)}`)),
      startMs,
    );
    try {
      await listening.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  async startHostdIfGone(): Promise<void> {
    if (this.#hostd === undefined) await this.startHostd();
  }

  /** Waits until hostd is gone: by itself, or by a signal. */
  async endHostd(signal?: NodeJS.Signals): Promise<void> {
    const child = this.#hostd;
    this.#hostd = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    if (signal !== undefined) child.kill(signal);
    await ended;
  }

  /** Runs a command as agentd's user, without capabilities, through hostd; any exit code is an answer. */
  async agent(
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
    owner: StateOwner = agentd,
  ): Promise<MvmResult> {
    return this.roots.mvm(args, {
      namespace: this.namespace,
      through: (program, all) => asUser(owner, program, all),
      timeoutMs: 900_000,
      env: { MVM_HOSTD_SOCKET: this.socket, ...env },
    });
  }

  /** Begins a command as agentd's user, which a test ends. */
  begin(args: readonly string[]): RunningCommand {
    const [first = "", ...rest] = asUser(agentd, mvm, args);
    const [program, all] = this.namespace.command(first, rest);
    // `nsenter`, `setpriv` and the launcher each become the next: one process is all of them.
    const child = spawn(program, all, {
      env: { ...process.env, ...this.roots.env, MVM_HOSTD_SOCKET: this.socket },
      stdio: ["ignore", "ignore", "pipe"],
    });
    return new RunningCommand(child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.endHostd("SIGTERM");
      await this.roots[Symbol.asyncDispose]();
    } finally {
      await this.namespace[Symbol.asyncDispose]();
    }
  }
}
