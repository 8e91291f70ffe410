import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { mountPoints } from "../../src/host/mounts.ts";
import { listPids, processArguments } from "../../src/host/processes.ts";
import { randomOf } from "../builders/random.ts";
import { projectDir } from "../test-host.ts";
import { NodeUnderTest } from "./node-under-test.ts";
import { VmmWatch } from "./vmm-watch.ts";

/** What a process that was killed is answered as by `NodeUnderTest.try`. */
const killed = 128;
const seed = Number(process.env["MVM_CRASH_SEED"] ?? randomInt(1, 1_000_000));
const seededKills = 20;
/** How often one command is killed before it may end. */
const killsALife = 5;
const maxLives = 12;
const killsADeployment = 10;
/** A killed `mvm new` lived between these times. */
const shortestLifeMs = 200;
const longestLifeMs = 8000;

/** The points that every life of an instance passes; the test finds the others itself. */
const knownPoints = [
  "net-id:used",
  "tenant",
  "pool",
  "builder:started",
  "image:built",
  "pool:image",
  "instance:ready",
  "start:network",
  "start:drives",
  "drives:prepared",
  "start:vmm",
  "vmm:started",
  "start:agent",
  "instance:running",
  "warm:pause",
  "vmm:paused",
  "instance:warm",
  "resume:vcpus",
  "vmm:resumed",
  "stop:guest",
  "stop:network",
  "vmm:stopped",
  "drives:released",
  "instance:stopped",
  "destroy:wipe",
  "drives:destroyed",
  "instance:removed",
  "tenant:destroying",
  "network:applied",
  "pool:removed",
  "drives:wiped",
  "tenant:removed",
];

/** A command of a life, and the exit codes with which it ends when the one that was killed had done all its work. */
interface Command {
  readonly args: readonly string[];
  readonly doneBefore?: number;
}

describe("a node whose commands are killed", () => {
  let node: NodeUnderTest;
  let watch: VmmWatch;
  /** Points that a command was killed at. */
  const reached = new Set<string>();

  before(async () => {
    node = await NodeUnderTest.make("crash");
    watch = new VmmWatch(node.roots);
  });
  after(async () => {
    watch[Symbol.dispose]();
    await node[Symbol.asyncDispose]();
  });

  const assertWhole = async (what: string): Promise<void> => {
    const { stdout, stderr } = await node.try(["doctor", "--leaks"]);
    assert.equal(stdout.trim(), "0 leaks", `${what}: ${stdout}${stderr}`);
    assert.deepEqual(watch.twice, [], `${what}: instances that ran twice`);
  };

  /** The deployment runs what it should; what a kill left beside it has no VMM and is taken when more is wanted. */
  const assertServing = async (what: string): Promise<void> => {
    const all = await node.instances("shop");
    const active = all.filter(({ pid }) => pid !== null).map(({ status }) => status);
    assert.deepEqual(active.toSorted(), ["running", "running", "running", "warm"], what);
    assert.ok(
      all.every(({ operation }) => operation === null),
      what,
    );
  };

  /** The points that a command passes when nothing kills it, each once. */
  const pointsOf = async (args: readonly string[]): Promise<string[]> => {
    const { exitCode, stderr } = await node.try(args, { env: { MVM_CRASH_AT: "list" } });
    assert.equal(exitCode, 0, `mvm ${args.join(" ")}: ${stderr}`);
    return [...new Set([...stderr.matchAll(/^crash point (.+)$/gm)].map(([, name]) => name ?? ""))];
  };

  /**
   * Runs a command that dies at the first point, again so that it dies at the second, and so on, then to
   * its end, and holds that all is well. @returns the points that were not reached: each run goes on from
   * where the one before it died, and may have passed them.
   */
  const killAt = async (
    { args, doneBefore }: Command,
    points: readonly string[],
  ): Promise<readonly string[]> => {
    const what = `mvm ${args.join(" ")}, killed at ${points.join(", then at ")}`;
    const ends = new Set([0, doneBefore]);
    let count = 0;
    for (; count < points.length; count += 1) {
      const point = points[count] ?? "";
      const { exitCode, stderr } = await node.try(args, { env: { MVM_CRASH_AT: point } });
      if (exitCode !== killed) {
        assert.ok(count > 0, `${what}: it does not pass ${point}: ${stderr}`);
        assert.ok(ends.has(exitCode), `${what}: ${stderr}`);
        break;
      }
      reached.add(point);
    }
    const last = await node.try(args);
    assert.ok(ends.has(last.exitCode), `${what}: ${last.stderr}`);
    await assertWhole(what);
    return points.slice(count);
  };

  const onlyInstance = async (tenant: string): Promise<string> => {
    const [instance, ...others] = await node.instances(tenant);
    assert.ok(instance && others.length === 0);
    return instance.address;
  };

  it("builds again what a build that was killed left, at every point of a build", async () => {
    await node.mvm("tenant", "create", "keeper");
    await node.mvm("pool", "create", "keeper/web", "--flake", "builtin:hello");
    // Only the first builds: what was built is there for those that come after it.
    const build = { args: ["pool", "build", "keeper/web"] };
    const missed = await killAt(build, ["builder:started", "image:built", "pool:image"]);
    assert.deepEqual(missed, []);
    // Its image outlives the deployments below, which are about what comes after a build.
    const gateways = ["keeper/gateways", "--role", "gateway"];
    await node.mvm("pool", "create", ...gateways, "--flake", "builtin:hello");
    await node.mvm("pool", "build", "keeper/gateways");
  });

  it("goes on from every intent and every effect in an instance's life", async () => {
    const waiting = new Map<string, readonly string[]>();
    // In the first life nothing is killed; in each other one, each command at its next few points.
    for (let life = 0; life === 0 || [...waiting.values()].flat().length > 0; life += 1) {
      assert.ok(life < maxLives, "lives without end");
      const live = async (name: string, args: string[], doneBefore?: number): Promise<void> => {
        const points = waiting.get(name);
        if (points === undefined) {
          waiting.set(name, await pointsOf(args));
          return;
        }
        const next = points.slice(0, killsALife);
        const command = doneBefore === undefined ? { args } : { args, doneBefore };
        const missed = await killAt(command, next);
        waiting.set(name, [...missed, ...points.slice(killsALife)]);
      };
      await live("create", ["tenant", "create", "acme"], 4);
      const flags = ["--flake", "builtin:hello", "--mem", "256", "--data-disk", "8"];
      await live("pool", ["pool", "create", "acme/web", ...flags], 4);
      await live("scale", ["pool", "scale", "acme/web", "--running", "1"]);
      const address = await onlyInstance("acme");
      await live("warm", ["instance", "warm", address]);
      await live("wake", ["instance", "wake", address]);
      await live("stop", ["instance", "stop", address]);
      const wipe = ["--wipe-volumes", "--yes"];
      await live("destroy", ["instance", "destroy", address, ...wipe], 3);
      await live("remove", ["tenant", "destroy", "acme", "--force", ...wipe], 3);
    }
    const missed = knownPoints.filter((point) => !reached.has(point));
    assert.deepEqual(missed, [], "points at which nothing was killed");
  });

  it(`converges after ${seededKills} kills of mvm new at any time (MVM_CRASH_SEED=${seed})`, async (test) => {
    const random = randomOf(seed);
    const deploy = ["new", "openclaw", "shop", "--flake", "builtin:hello"];
    for (let kills = 0; kills < seededKills;) {
      for (let here = 0; here < killsADeployment && kills < seededKills; here += 1) {
        const lifeMs = shortestLifeMs + random() * (longestLifeMs - shortestLifeMs);
        const [program, all] = node.namespace.command(`${projectDir}/bin/mvm`, deploy);
        const child = spawn(program, all, {
          env: { ...process.env, ...node.roots.env },
          stdio: "ignore",
        });
        const ended = once(child, "exit");
        await Promise.race([ended, delay(lifeMs)]);
        // One that was quicker than its killer is checked as it is.
        if (child.exitCode !== null) break;
        child.kill("SIGKILL");
        await ended;
        kills += 1;
        test.diagnostic(`kill ${kills} after ${Math.round(lifeMs)} ms`);
      }
      const last = await node.try(deploy);
      const what = `seed ${seed}, ${kills} kills`;
      assert.equal(last.exitCode, 0, `${what}: ${last.stderr}`);
      await assertServing(what);
      await assertWhole(what);
      if (kills < seededKills) {
        await node.mvm("tenant", "destroy", "shop", "--force", "--wipe-volumes", "--yes");
        await assertWhole(`${what}, destroyed`);
      }
    }
  });

  it("replaces a VMM that was killed, paused or running", async () => {
    for (const wanted of ["running", "warm"]) {
      const victim = (await node.instances("shop")).find(({ status }) => status === wanted);
      assert.ok(victim?.pid);
      process.kill(victim.pid, "SIGKILL");
      await node.mvm("new", "openclaw", "shop", "--flake", "builtin:hello");
      const all = await node.instances("shop");
      assert.ok(all.every(({ pid }) => pid !== victim.pid));
      assert.equal(all.filter(({ status }) => status === wanted).length, wanted === "warm" ? 1 : 3);
      await assertWhole(`kill of a ${wanted} VMM`);
    }
  });

  it("comes back after a reboot: no process, no run folder, no network, no packet filter", async () => {
    await reboot(node);
    assert.deepEqual(await watch.list(), []);
    await node.mvm("new", "openclaw", "shop", "--flake", "builtin:hello");
    await assertServing("reboot");
    await assertWhole("reboot");
    await node.mvm("tenant", "destroy", "shop", "--force", "--wipe-volumes", "--yes");
    await node.mvm("tenant", "destroy", "keeper", "--force", "--wipe-volumes", "--yes");
    await assertWhole("the end");
  });
});

/** What a reboot leaves of a node: its disk alone. */
async function reboot(node: NodeUnderTest): Promise<void> {
  const { runDir } = node.roots;
  for (const pid of await ownProcesses(runDir)) process.kill(pid, "SIGKILL");
  while ((await ownProcesses(runDir)).length > 0) await delay(50);
  await node.namespace.run("nft", ["flush", "ruleset"]);
  const links = JSON.parse(await node.namespace.run("ip", ["-json", "link"])) as {
    ifname: string;
  }[];
  const own = links.filter(({ ifname }) => ifname !== "lo");
  await node.namespace.ip(...own.map(({ ifname }) => `link delete ${ifname}`));
  for (const path of await mountPoints()) {
    if (path.startsWith(`${runDir}/`)) await node.namespace.run("umount", [path]);
  }
  await rm(runDir, { recursive: true });
}

/** VMMs, DNS servers and whatever else of a node has its run folder in its arguments. */
async function ownProcesses(runDir: string): Promise<number[]> {
  const own: number[] = [];
  for (const pid of await listPids()) {
    const args = await processArguments(pid);
    if (args?.some((arg) => arg.includes(`${runDir}/`)) === true) own.push(pid);
  }
  return own;
}
