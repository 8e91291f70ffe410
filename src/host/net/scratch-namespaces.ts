import { randomBytes } from "node:crypto";
import type { Exec, RunOptions, RunResult } from "../../ports/exec.ts";
import { listFolderIfAny } from "../files.ts";
import { isAlive, processStartTicks } from "../processes.ts";

const namespacesFolder = "/run/netns";
const toolTimeoutMs = 30_000;

/** A network namespace of this process's own, in which nothing of the host is. */
export class ScratchNamespace implements AsyncDisposable {
  readonly name: string;
  readonly #exec: Exec;

  constructor(exec: Exec, name: string) {
    this.#exec = exec;
    this.name = name;
  }

  /** Runs a program inside and expects exit code 0. @returns its standard output. */
  async run(
    program: string,
    args: readonly string[],
    options: Partial<RunOptions> = {},
  ): Promise<string> {
    const all = this.#inside(program, args);
    return (await this.#exec.run("nsenter", all, { timeoutMs: toolTimeoutMs, ...options })).stdout;
  }

  /** As `run`, but any exit code is an answer. */
  async tryRun(
    program: string,
    args: readonly string[],
    options: Partial<RunOptions> = {},
  ): Promise<RunResult> {
    const all = this.#inside(program, args);
    return await this.#exec.tryRun("nsenter", all, { timeoutMs: toolTimeoutMs, ...options });
  }

  #inside(program: string, args: readonly string[]): string[] {
    // `ip netns exec` would mount a /sys of its own for each program; nsenter only enters.
    return [`--net=${namespacesFolder}/${this.name}`, program, ...args];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#exec.run("ip", ["netns", "delete", this.name], { timeoutMs: toolTimeoutMs });
  }
}

/**
 * Makes namespaces for checks. Their names say which process made them, so that those of one that
 * died are found and removed by the next.
 */
export class ScratchNamespaces {
  readonly #exec: Exec;

  constructor(exec: Exec) {
    this.#exec = exec;
  }

  /** `label` says what it is for. */
  async make(label: string): Promise<ScratchNamespace> {
    await this.sweep();
    const ticks = await processStartTicks(process.pid);
    // One process may check twice at once.
    const name = `mvm-check-${process.pid}-${ticks ?? 0}-${label}-${randomBytes(4).toString("hex")}`;
    await this.#exec.run("ip", ["netns", "add", name], { timeoutMs: toolTimeoutMs });
    return new ScratchNamespace(this.#exec, name);
  }

  /** Those whose maker is gone. */
  async leftovers(): Promise<string[]> {
    const left: string[] = [];
    for (const name of await listFolderIfAny(namespacesFolder)) {
      const [, pid, startTicks] = /^mvm-check-(\d+)-(\d+)-/.exec(name)?.map(Number) ?? [];
      if (pid === undefined || startTicks === undefined) continue;
      if (!(await isAlive({ pid, startTicks }))) left.push(name);
    }
    return left.toSorted();
  }

  /** Removes those whose maker is gone; two that do it at once do not disturb each other. */
  async sweep(): Promise<void> {
    for (const name of await this.leftovers()) {
      await this.#exec.tryRun("ip", ["netns", "delete", name], { timeoutMs: toolTimeoutMs });
    }
  }
}
