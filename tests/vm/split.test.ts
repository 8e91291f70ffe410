import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { SplitNode } from "../hosts/split-node.ts";
import { type MvmResult, freshRoots } from "../test-host.ts";
import type { ListedInstance } from "./node-under-test.ts";
import { VmmWatch } from "./vmm-watch.ts";

/** A node whose engine is a user without any capability, and whose hostd has only those of its unit. */
describe("microVMs through hostd", () => {
  let node: SplitNode;
  let watch: VmmWatch;

  const agent = async (...args: readonly string[]): Promise<MvmResult> => {
    const result = await node.agent(args);
    assert.equal(result.exitCode, 0, `mvm ${args.join(" ")}: ${result.stderr}`);
    return result;
  };
  const instances = async (): Promise<ListedInstance[]> =>
    JSON.parse((await agent("instance", "list", "--json")).stdout) as ListedInstance[];
  const only = async (): Promise<ListedInstance> => {
    const [first, ...others] = await instances();
    assert.ok(first !== undefined && others.length === 0);
    return first;
  };
  /** Lets the one instance run, whatever the last test left of it. */
  const converge = async (): Promise<ListedInstance> => {
    await agent("instance", "start", (await only()).address);
    const found = await only();
    assert.equal(found.status, "running", found.cause ?? "");
    assert.equal(found.operation, null);
    return found;
  };

  before(async () => {
    node = await SplitNode.make(await freshRoots(), "split");
    watch = new VmmWatch(node.roots);
    await agent("tenant", "create", "acme");
    await agent("pool", "create", "acme/web", "--flake", "builtin:hello", "--mem", "256");
    await agent("pool", "scale", "acme/web", "--running", "1");
  });
  after(async () => {
    try {
      await node.startHostdIfGone();
      await agent("tenant", "destroy", "acme", "--force", "--wipe-volumes", "--yes");
      assert.deepEqual(await watch.list(), []);
      assert.deepEqual(watch.twice, [], "instances that ran twice");
    } finally {
      watch[Symbol.dispose]();
      await node[Symbol.asyncDispose]();
    }
  });

  it("one is built, booted and asked by a user without capabilities, and runs as its own", async () => {
    const { address, pid } = await only();
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    assert.match(status, /^Uid:\t1900000258\t1900000258/m);
    assert.match(status, /^CapEff:\t0+$/m);
    const { stdout } = await agent("instance", "exec", address, "--", "echo", "from the guest");
    assert.equal(stdout, "from the guest\n");
    await agent("instance", "logs", address);
    const { stdout: printed } = await agent("instance", "logs", address, "--console");
    assert.notEqual(printed, "");
    await agent("instance", "stats", address);
  });

  it("hostd killed and started again ends no VM, and steers it on", async () => {
    const { address, pid } = await only();
    await node.endHostd("SIGKILL");
    await node.startHostd();
    await agent("instance", "warm", address);
    await agent("instance", "wake", address);
    assert.equal((await only()).pid, pid);
    await agent("instance", "exec", address, "--", "true");
  });

  for (const point of ["network:applied", "drives:prepared", "vmm:started"]) {
    it(`hostd is killed right after ${point} while an instance starts: the start goes on, with one VMM`, async () => {
      const { address } = await converge();
      await agent("instance", "stop", address);
      await node.endHostd("SIGTERM");
      await node.startHostd({ MVM_CRASH_AT: point });
      const starting = node.agent(["instance", "start", address]);
      await node.endHostd();
      await delay(500);
      await node.startHostd();
      const { exitCode, stderr } = await starting;
      assert.equal(exitCode, 0, stderr);
      assert.equal((await only()).status, "running");
      assert.equal((await watch.list()).length, 1);
    });
  }

  for (const point of ["vmm:stopped", "drives:released"]) {
    it(`hostd is killed right after ${point} while an instance stops: it is stopped, and starts again`, async () => {
      const { address } = await converge();
      await node.endHostd("SIGTERM");
      await node.startHostd({ MVM_CRASH_AT: point });
      const stopping = node.agent(["instance", "stop", address]);
      await node.endHostd();
      await node.startHostd();
      const { exitCode, stderr } = await stopping;
      assert.equal(exitCode, 0, stderr);
      assert.equal((await only()).status, "stopped");
      assert.deepEqual(await watch.list(), []);
      await agent("instance", "start", address);
    });
  }

  it("agentd is killed once the VMM runs: the next one adopts it", async () => {
    const { address } = await converge();
    await agent("instance", "stop", address);
    const killed = await node.agent(["instance", "start", address], {
      MVM_CRASH_AT: "vmm:started",
    });
    assert.notEqual(killed.exitCode, 0);
    const [id] = await watch.list();
    assert.equal(id, address.split("/")[2]);
    const { stderr } = await agent("instance", "start", address);
    assert.match(stderr, /adopting/);
    assert.equal((await only()).status, "running");
  });

  it("both are killed while an instance starts: whoever comes next goes on with the one VMM", async () => {
    const { address } = await converge();
    await agent("instance", "stop", address);
    await node.endHostd("SIGTERM");
    await node.startHostd({ MVM_CRASH_AT: "vmm:started" });
    const starting = node.begin(["instance", "start", address]);
    await node.endHostd();
    await starting.end("SIGKILL");
    await node.startHostd();
    await converge();
    assert.equal((await watch.list()).length, 1);
  });
});
