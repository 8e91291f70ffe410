import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { HostGuestLink } from "../src/host/guest-link.ts";
import { processArguments, processStartTicks } from "../src/host/processes.ts";
import { QemuVmm } from "../src/host/vmm/qemu/qemu-vmm.ts";
import type { NetNamespace } from "../tests/hosts/net-namespace.ts";

const bootTimeoutMs = 300_000;

/**
 * The VMM of an instance, to be started by hand: the same command line, on copies of its drives, with
 * a TAP that leads nowhere and nobody who reads its console.
 */
export class BareVmm {
  readonly #namespace: NetNamespace;
  readonly #runDir: string;
  readonly #args: readonly string[];
  readonly #link = new HostGuestLink(new QemuVmm(() => Promise.reject(new Error("not asked"))));
  #child: ChildProcess | undefined;

  private constructor(namespace: NetNamespace, runDir: string, args: readonly string[]) {
    this.#namespace = namespace;
    this.#runDir = runDir;
    this.#args = args;
  }

  /** Takes the command line of a VMM that runs, and copies of what it writes to. */
  static async copyOf(
    pid: number,
    namespace: NetNamespace,
    folder: string,
    number: number,
  ): Promise<BareVmm> {
    const runDir = join(folder, `bare-${number}`);
    const tap = `bare${number}`;
    await mkdir(runDir, { mode: 0o700 });
    await namespace.ip(`tuntap add dev ${tap} mode tap`, `link set ${tap} up`);
    const args: string[] = [];
    for (const arg of (await processArguments(pid)) ?? []) {
      args.push(await movedTo(runDir, tap, arg));
    }
    return new BareVmm(namespace, runDir, args);
  }

  /** Starts it and answers once its guest agent has. */
  async start(): Promise<void> {
    for (const name of ["qmp.sock", "agent.sock", "channel.lock"]) {
      await rm(join(this.#runDir, name), { force: true });
    }
    const [program, args] = this.#namespace.command("setpriv", [
      "--no-new-privs",
      "--",
      ...this.#args,
    ]);
    // The fourth is the console.
    const child = spawn(program, args, { stdio: ["ignore", "ignore", "ignore", "pipe"] });
    child.stdio[3]?.on("data", () => undefined);
    this.#child = child;
    await once(child, "spawn");
    const pid = child.pid ?? 0;
    const startTicks = (await processStartTicks(pid)) ?? 0;
    const vmm = { id: "bare", runDir: this.#runDir, pid, startTicks };
    (await this.#link.open(vmm, bootTimeoutMs)).close();
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }
}

/** An argument of the VMM with its sockets, its TAP and each drive of the instance's own replaced. */
async function movedTo(runDir: string, tap: string, arg: string): Promise<string> {
  const file = /,file\.filename=(.+)$/.exec(arg)?.[1];
  if (file !== undefined && !file.includes("/images/")) {
    const copy = join(runDir, basename(file));
    await cp(file, copy);
    return arg.replace(file, copy);
  }
  return arg
    .replace(/path=[^,]*\/agent\.sock/, `path=${join(runDir, "agent.sock")}`)
    .replace(/unix:[^,]*\/qmp\.sock/, `unix:${join(runDir, "qmp.sock")}`)
    .replace(/ifname=[^,]+/, `ifname=${tap}`);
}
