import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type MvmResult, type TestRoots, freshRoots, projectDir } from "../test-host.ts";
import { NetNamespace, connect } from "./net-namespace.ts";

const mvm = join(projectDir, "bin", "mvm");
const startMs = 30_000;
const commandMs = 900_000;

/** A node in a network namespace of its own, with a daemon. */
export interface FleetNode {
  readonly roots: TestRoots;
  readonly namespace: NetNamespace;
  /** As the coordinator reaches it. */
  readonly address: string;
  log: string;
  agent: ChildProcess | undefined;
}

/** Nodes and a coordinator, each in a network namespace of its own, joined by links of their own. */
export class FleetUnderTest implements AsyncDisposable {
  readonly nodes: FleetNode[] = [];
  readonly #namespace: NetNamespace;
  readonly #folder: string;

  private constructor(namespace: NetNamespace, folder: string) {
    this.#namespace = namespace;
    this.#folder = folder;
  }

  /** @param folder of the test's own, for the coordinator's files. */
  static async make(folder: string, count: number): Promise<FleetUnderTest> {
    const fleet = new FleetUnderTest(await NetNamespace.make("coord"), folder);
    try {
      await mkdir(folder, { recursive: true });
      await writeFile(fleet.path("ca.crt"), await fleet.mvm("coordinator", "ca", "init"));
      await writeFile(fleet.path("coordinator.pub"), await fleet.mvm("coordinator", "keygen"));
      for (let index = 0; index < count; index += 1) await fleet.#addNode(index);
    } catch (error) {
      // Nobody else knows yet what there is to be ended and removed.
      await fleet[Symbol.asyncDispose]();
      throw error;
    }
    return fleet;
  }

  path(name: string): string {
    return join(this.#folder, name);
  }

  /** `--node` for each node. */
  get all(): string[] {
    return this.nodes.flatMap(({ address }) => ["--node", address]);
  }

  /** Runs a command of the coordinator; any exit code is an answer. */
  async try(...args: readonly string[]): Promise<MvmResult> {
    return this.#run(this.#namespace, { MVM_COORDINATOR_DIR: this.path("coordinator") }, args);
  }

  /** Runs a command of the coordinator that must succeed. @returns its standard output. */
  async mvm(...args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.try(...args);
    const logs = this.nodes.map(({ log }) => log.slice(-2000)).join("\n--\n");
    assert.equal(exitCode, 0, `${args.join(" ")}: ${stdout}${stderr}\n${logs}`);
    return stdout;
  }

  /** Pushes a document to all nodes and waits for it. @returns what was said. */
  async push(document: object): Promise<string> {
    await writeFile(this.path("desired.json"), JSON.stringify(document));
    return this.mvm(
      "coordinator",
      "push",
      "--desired",
      this.path("desired.json"),
      "--wait",
      ...this.all,
    );
  }

  /** Runs a command on a node that must succeed. */
  async on(node: FleetNode, ...args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.#run(node.namespace, node.roots.env, args);
    assert.equal(exitCode, 0, `${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  /** Starts a node's daemon and waits until it serves. */
  async start(node: FleetNode): Promise<void> {
    const args = ["agent", "serve", "--interval-secs", "5", "--metrics-port", "0"];
    const [program, all] = node.namespace.command(mvm, args);
    const agent = spawn(program, all, {
      env: { PATH: process.env["PATH"] ?? "", ...node.roots.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    node.agent = agent;
    node.log = "";
    const serving = Promise.withResolvers<void>();
    for (const stream of [agent.stdout, agent.stderr]) {
      stream.on("data", (bytes: Buffer) => {
        node.log += bytes.toString();
        if (node.log.includes(" serves on ")) serving.resolve();
      });
    }
    agent.once("exit", () => serving.reject(new Error(`the agent ended: ${node.log}`)));
    const timer = setTimeout(() => serving.reject(new Error(node.log)), startMs);
    await serving.promise;
    clearTimeout(timer);
  }

  /** Ends a node's daemon. @returns its exit code, or the signal. */
  async stop(node: FleetNode, how: NodeJS.Signals): Promise<number | string | null> {
    const { agent } = node;
    node.agent = undefined;
    if (agent === undefined || agent.exitCode !== null) return agent?.exitCode ?? null;
    const ended = once(agent, "exit") as Promise<[number | null, string | null]>;
    agent.kill(how);
    const [code, by] = await ended;
    return code ?? by;
  }

  async #addNode(index: number): Promise<void> {
    const namespace = await NetNamespace.make(`node${index}`);
    await connect(this.#namespace, namespace, [`up${index}`, "uplink"]);
    await this.#namespace.ip(
      `addr add 192.0.2.${index * 4 + 1}/30 dev up${index}`,
      `link set up${index} up`,
    );
    await namespace.ip(`addr add 192.0.2.${index * 4 + 2}/30 dev uplink`, "link set uplink up");
    const node: FleetNode = {
      roots: await freshRoots(),
      namespace,
      address: `192.0.2.${index * 4 + 2}:4433`,
      log: "",
      agent: undefined,
    };
    this.nodes.push(node);
    await mkdir(join(node.roots.configDir, "trusted_keys"), { recursive: true });
    await mkdir(node.roots.runDir, { recursive: true });
    const key = await readFile(this.path("coordinator.pub"), "utf8");
    await writeFile(join(node.roots.configDir, "trusted_keys", "fleet.pub"), key);
    await this.on(node, "agent", "certs", "init", "--ca", this.path("ca.crt"));
    await writeFile(this.path("node.csr"), await this.on(node, "agent", "certs", "request"));
    const certificate = await this.mvm(
      "coordinator",
      "ca",
      "issue",
      "--request",
      this.path("node.csr"),
    );
    await writeFile(this.path("node.crt"), certificate);
    await this.on(node, "agent", "certs", "install", "--certificate", this.path("node.crt"));
    await this.start(node);
  }

  async #run(
    namespace: NetNamespace,
    env: Readonly<Record<string, string>>,
    args: readonly string[],
  ): Promise<MvmResult> {
    const [program, all] = namespace.command(mvm, args);
    const child = spawn(program, all, {
      env: { PATH: process.env["PATH"] ?? "", ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const timer = setTimeout(() => child.kill("SIGKILL"), commandMs);
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (bytes: Buffer) => (stdout += bytes.toString()));
    child.stderr.on("data", (bytes: Buffer) => (stderr += bytes.toString()));
    const [code] = (await once(child, "close")) as [number | null];
    clearTimeout(timer);
    return { exitCode: code ?? -1, stdout, stderr };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const problems: unknown[] = [];
    for (const node of this.nodes) {
      await this.stop(node, "SIGKILL");
      for (const part of [node.roots, node.namespace]) {
        try {
          await part[Symbol.asyncDispose]();
        } catch (error) {
          problems.push(error);
        }
      }
    }
    await this.#namespace[Symbol.asyncDispose]();
    if (problems.length > 0) throw new AggregateError(problems, "the fleet left something behind");
  }
}
