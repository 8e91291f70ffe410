import assert from "node:assert/strict";
import { once } from "node:events";
import { spawn } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { NetNamespace } from "../hosts/net-namespace.ts";
import {
  type MvmOptions,
  type MvmResult,
  type TestRoots,
  freshRoots,
  projectDir,
} from "../test-host.ts";

/** An instance as `mvm instance list --json` shows it, as far as tests look. */
export interface ListedInstance {
  readonly address: string;
  readonly status: string;
  readonly operation: string | null;
  readonly ip: string;
  readonly pid: number | null;
  readonly cause: string | null;
}

const commandTimeoutMs = 900_000;

/** A node of a test's own: roots and a network namespace. Disposing fails when mvm left something in them. */
export class NodeUnderTest implements AsyncDisposable {
  readonly roots: TestRoots;
  readonly namespace: NetNamespace;

  private constructor(roots: TestRoots, namespace: NetNamespace) {
    this.roots = roots;
    this.namespace = namespace;
  }

  static async make(label: string): Promise<NodeUnderTest> {
    const roots = await freshRoots();
    return new NodeUnderTest(roots, await NetNamespace.make(label));
  }

  /** Runs a command; any exit code is an answer. */
  async try(args: readonly string[], options: MvmOptions = {}): Promise<MvmResult> {
    return this.roots.mvm(args, {
      namespace: this.namespace,
      timeoutMs: commandTimeoutMs,
      ...options,
    });
  }

  /** Runs a command that must succeed. @returns its standard output. */
  async mvm(...args: readonly string[]): Promise<string> {
    const result = await this.try(args);
    assert.equal(result.exitCode, 0, `mvm ${args.join(" ")}: ${result.stderr}`);
    return result.stdout;
  }

  async json(...args: readonly string[]): Promise<unknown> {
    return JSON.parse(await this.mvm(...args, "--json"));
  }

  async instances(tenant?: string): Promise<ListedInstance[]> {
    const only = tenant === undefined ? [] : ["--tenant", tenant];
    return (await this.json("instance", "list", ...only)) as ListedInstance[];
  }

  /** The command line of `bin/mvm` on this node, for who starts it otherwise than `try`; with `env`. */
  command(...args: readonly string[]): string[] {
    const [program, all] = this.namespace.command(`${projectDir}/bin/mvm`, args);
    return [program, ...all];
  }

  get env(): Record<string, string> {
    return { PATH: process.env["PATH"] ?? "", ...this.roots.env };
  }

  /** Runs a command in a guest; any exit code is an answer. */
  async exec(address: string, ...command: readonly string[]): Promise<MvmResult> {
    return this.try(["instance", "exec", address, "--", ...command]);
  }

  /** Starts a command and kills it with SIGKILL once it has printed a line that matches. */
  async killWhen(args: readonly string[], pattern: RegExp): Promise<void> {
    const [program, all] = this.namespace.command(`${projectDir}/bin/mvm`, args);
    const child = spawn(program, all, {
      env: { ...process.env, ...this.roots.env },
      stdio: ["ignore", "ignore", "pipe"],
    });
    const ended = once(child, "exit");
    let seen = "";
    for await (const chunk of child.stderr) {
      seen += String(chunk);
      if (pattern.test(seen)) break;
    }
    child.kill("SIGKILL");
    await ended;
    assert.match(seen, pattern);
  }

  /** An HTTP GET from the host, asked again until it answers. */
  async get(url: string, timeoutMs: number): Promise<string> {
    const deadlineMs = Date.now() + timeoutMs;
    const source =
      "fetch(process.argv[1],{signal:AbortSignal.timeout(5000)}).then(r=>r.text()).then(t=>process.stdout.write(t),()=>process.exit(1))";
    for (;;) {
      const { exitCode, stdout } = await this.namespace.node(source, url);
      if (exitCode === 0) return stdout;
      if (Date.now() > deadlineMs) throw new Error(`${url} does not answer`);
      await delay(1000);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.roots[Symbol.asyncDispose]();
    } finally {
      await this.namespace[Symbol.asyncDispose]();
    }
  }
}
