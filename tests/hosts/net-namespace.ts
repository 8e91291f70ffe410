import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { HostExec } from "../../src/host/exec.ts";
import type { RunOptions, RunResult } from "../../src/ports/exec.ts";

const exec = new HostExec();

/**
 * A network namespace of a test's own. Programs enter it by `nsenter`, not by `ip netns exec`:
 * that one gives each program a private mount namespace, and what it mounts is gone for the next.
 * So /sys shows the devices of the machine's namespace; /proc/sys/net and netlink show this one's.
 */
export class NetNamespace implements AsyncDisposable {
  readonly name: string;
  readonly #children: ChildProcess[] = [];

  private constructor(name: string) {
    this.name = name;
  }

  /** Makes a namespace with its loopback up. The label keeps several of one test apart. */
  static async make(label: string): Promise<NetNamespace> {
    const name = `mvm-test-${process.pid}-${label}`;
    await exec.run("ip", ["netns", "add", name], { timeoutMs: 10_000 });
    const namespace = new NetNamespace(name);
    await namespace.ip("link set lo up");
    return namespace;
  }

  /** The command that runs a program inside. */
  command(program: string, args: readonly string[]): [string, string[]] {
    return ["nsenter", [`--net=/run/netns/${this.name}`, program, ...args]];
  }

  /** Runs a program inside; any exit code is an answer. */
  async tryRun(
    program: string,
    args: readonly string[],
    options?: Partial<RunOptions>,
  ): Promise<RunResult> {
    const [enter, all] = this.command(program, args);
    return await exec.tryRun(enter, all, { timeoutMs: 20_000, ...options });
  }

  /** Runs a program inside and expects exit code 0. @returns its standard output. */
  async run(
    program: string,
    args: readonly string[],
    options?: Partial<RunOptions>,
  ): Promise<string> {
    const [enter, all] = this.command(program, args);
    return (await exec.run(enter, all, { timeoutMs: 20_000, ...options })).stdout;
  }

  /** Runs lines of `ip` commands inside, as one batch. */
  async ip(...lines: readonly string[]): Promise<void> {
    await this.run("ip", ["-batch", "-"], { input: `${lines.join("\n")}\n` });
  }

  /** Runs a program of this Node inside: `source` is the text of a CommonJS script. */
  async node(source: string, ...args: readonly string[]): Promise<RunResult> {
    return await this.tryRun(process.execPath, ["-e", source, ...args]);
  }

  /** Starts a Node script that goes on until the namespace is removed; resolves at its first output. */
  async startNode(source: string, ...args: readonly string[]): Promise<ChildProcess> {
    const [enter, all] = this.command(process.execPath, ["-e", source, ...args]);
    const child = spawn(enter, all, { stdio: ["ignore", "pipe", "inherit"] });
    this.#children.push(child);
    await once(child.stdout, "data", { signal: AbortSignal.timeout(20_000) });
    return child;
  }

  /** Ends what was started inside and removes the namespace with its links. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    }
    await exec.run("ip", ["netns", "delete", this.name], { timeoutMs: 10_000 });
  }
}

/** Connects two namespaces by a veth pair; `ends` are the names of the two links. */
export async function connect(
  left: NetNamespace,
  right: NetNamespace,
  ends: readonly [string, string],
): Promise<void> {
  await exec.run(
    "ip",
    [
      "-n",
      left.name,
      "link",
      "add",
      ends[0],
      "type",
      "veth",
      "peer",
      "name",
      ends[1],
      "netns",
      right.name,
    ],
    { timeoutMs: 10_000 },
  );
}
