import assert from "node:assert/strict";
import { mkdir, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { NotTrustedError, OperationError } from "../../src/domain/errors.ts";
import { parseInstanceAddress } from "../../src/domain/ids.ts";
import { HostExec } from "../../src/host/exec.ts";
import { HostdClient } from "../../src/host/hostd/client.ts";
import { RemoteDrives, RemoteLogs } from "../../src/host/hostd/remote-drives.ts";
import { handOver } from "../../src/host/setup/hand-over.ts";
import { peerCredentials } from "../../src/host/syscalls.ts";
import { SplitNode, agentd, asUser, stranger } from "../hosts/split-node.ts";
import { type MvmResult, emptyRoots } from "../test-host.ts";

const exec = new HostExec();
const instance = parseInstanceAddress("acme/web/i-0000000a");
const config = {
  schema_version: 1,
  tenant_id: "acme",
  pool_id: "web",
  instance_id: "i-0000000a",
  role: "worker",
  guest_ip: "10.240.1.2",
  gateway_ip: "10.240.1.1",
  resources: { vcpus: 1, mem_mib: 256, data_disk_mib: 16 },
  integrations: [],
  gateway_routes: [],
} as const;
const drives = {
  instance,
  dataDiskMib: 16,
  config,
  secrets: [{ integration: null, uid: 0, values: { API_KEY: "canary" } }],
} as const;

async function ownerOf(path: string): Promise<string> {
  const { uid, gid, mode } = await stat(path);
  return `${uid}:${gid} ${(mode & 0o7777).toString(8)}`;
}

const byAgentd = `${agentd.uid}:${agentd.gid}`;

const skip = process.getuid?.() === 0 ? false : "needs root";
describe("agentd and hostd, each in its own process", { skip }, () => {
  let node: SplitNode;

  before(async () => {
    node = await SplitNode.make(await emptyRoots(), "hostd");
  });
  after(() => node[Symbol.asyncDispose]());

  const state = (...names: readonly string[]): string => join(node.roots.stateDir, ...names);
  const client = (): HostdClient =>
    new HostdClient({ path: node.socket, peerOf: peerCredentials, reconnectMs: 1000 });

  /** Runs a plain program as agentd; any exit code is an answer. */
  const tryAsAgentd = async (program: string, ...args: readonly string[]): Promise<number> => {
    const [first = "", ...rest] = asUser(agentd, program, args);
    return (await exec.tryRun(first, rest, { timeoutMs: 10_000 })).exitCode;
  };

  /** Runs a command as agentd; it must succeed. */
  const agent = async (...args: readonly string[]): Promise<MvmResult> => {
    const result = await node.agent(args);
    assert.equal(result.exitCode, 0, result.stderr);
    return result;
  };

  /** Runs a command whose hostd dies at a point, and starts hostd again while the command waits. */
  const withDeathAt = async (point: string, ...args: readonly string[]): Promise<MvmResult> => {
    await node.endHostd("SIGTERM");
    await node.startHostd({ MVM_CRASH_AT: point });
    const running = node.agent(args);
    await node.endHostd();
    await delay(200);
    await node.startHostd();
    return running;
  };

  it("a user without any capability makes a tenant: records are its own, and keys and folders root's", async () => {
    await agent("tenant", "create", "acme");
    await agent("pool", "create", "acme/web", "--flake", "builtin:hello");
    assert.equal(await ownerOf(state("tenants", "acme", "tenant.json")), `${byAgentd} 600`);
    assert.equal(await ownerOf(state("tenants", "acme", "audit.log")), `${byAgentd} 600`);
    const pool = state("tenants", "acme", "pools", "web");
    assert.equal(await ownerOf(join(pool, "pool.json")), `${byAgentd} 600`);
    assert.equal(await ownerOf(pool), `0:${agentd.gid} 1770`);
    assert.equal(await ownerOf(state("keys", "acme.key")), "0:0 600");
    assert.equal(await ownerOf(state("networks.json")), "0:0 600");
    assert.equal(await ownerOf(node.socket), `0:${agentd.gid} 660`);
  });

  it("the tenant's network is made, and found to be as it should be", async () => {
    await agent("net", "repair");
    await agent("net", "verify");
    assert.match(await node.namespace.run("ip", ["link"]), /br-tenant-1/);
  });

  it("drives are root's, and what secrets are read by follows from their integration", async () => {
    const remote = new RemoteDrives(client(), node.roots);
    const paths = await remote.prepare(drives);
    assert.equal(await ownerOf(paths.data ?? ""), "0:0 600");
    assert.equal(await ownerOf(join(paths.config, "..")), "0:0 700");
    const listed = await exec.run("debugfs", ["-R", "stat secrets.json", paths.secrets], {
      timeoutMs: 10_000,
    });
    assert.match(listed.stdout, /User:\s+1000\b/, "the uid that was wished for is not asked for");
    await remote.release(instance);
  });

  it("agentd can neither read nor move away what is root's in its folders", async () => {
    const place = state("tenants", "acme", "pools", "web", "instances", "i-0000000a");
    assert.notEqual(await tryAsAgentd("ls", join(place, "volumes")), 0);
    assert.notEqual(await tryAsAgentd("mv", join(place, "volumes"), join(place, "moved")), 0);
    assert.notEqual(await tryAsAgentd("mv", place, `${place}0`), 0);
    assert.notEqual(await tryAsAgentd("rm", "-rf", state("keys", "acme.key")), 0);
    assert.notEqual(await tryAsAgentd("cat", state("keys", "acme.key")), 0);
    assert.notEqual(await tryAsAgentd("mv", node.socket, `${node.socket}.old`), 0);
    assert.notEqual(await tryAsAgentd("touch", state("planted")), 0);
    assert.equal(await tryAsAgentd("touch", join(place, "instance.json")), 0);
    assert.equal(await tryAsAgentd("rm", join(place, "instance.json")), 0);
  });

  it("a link that agentd planted in the place of a folder is not followed: nothing is read, written or removed beyond it", async () => {
    const outside = join(node.roots.folder, "outside");
    await mkdir(outside, { mode: 0o700 });
    await writeFile(join(outside, "console.log"), "a secret of the host\n");
    const planted = parseInstanceAddress("acme/web/i-0000000b");
    const place = state("tenants", "acme", "pools", "web", "instances", "i-0000000b");
    const hostd = client();
    await hostd.call("FoldersMake", { of: planted });
    const request = {
      ...drives,
      instance: planted,
      config: { ...config, instance_id: "i-0000000b" },
    };
    for (const name of ["volumes", "logs"]) {
      assert.equal(await tryAsAgentd("ln", "-s", outside, join(place, name)), 0);
      await assert.rejects(
        new RemoteDrives(hostd, node.roots).prepare(request),
        (error) => error instanceof NotTrustedError,
      );
      await assert.rejects(new RemoteLogs(hostd).console(planted, 5), NotTrustedError);
      const destroy = new RemoteDrives(hostd, node.roots).destroy(planted, true);
      await assert.rejects(destroy, NotTrustedError);
      assert.equal(await tryAsAgentd("rm", join(place, name)), 0);
    }
    assert.deepEqual(await readdir(outside), ["console.log"]);
    assert.equal(await tryAsAgentd("mkdir", join(place, "logs")), 0);
    await assert.rejects(new RemoteLogs(hostd).console(planted, 5), NotTrustedError);
    assert.equal(await tryAsAgentd("rmdir", join(place, "logs")), 0);
    // One that lies where an instance's own folder would be made.
    const where = state("tenants", "acme", "pools", "web", "instances", "i-0000000c");
    assert.equal(await tryAsAgentd("ln", "-s", outside, where), 0);
    const third = parseInstanceAddress("acme/web/i-0000000c");
    await assert.rejects(hostd.call("FoldersMake", { of: third }), NotTrustedError);
    await assert.rejects(hostd.call("FoldersRemove", { of: third }), NotTrustedError);
    assert.equal(await tryAsAgentd("rm", where), 0);
    await hostd.call("FoldersRemove", { of: planted });
  });

  it("hostd reads no folder of the host as a flake but those that root put in their place", async () => {
    const hostd = client();
    const flake = join(node.roots.configDir, "flakes", "good");
    await mkdir(flake, { recursive: true, mode: 0o755 });
    await writeFile(join(flake, "flake.nix"), "{}");
    await symlink("/etc", join(node.roots.configDir, "flakes", "link"));
    const key = (flakeRef: string): Promise<unknown> =>
      hostd.call("BuildKey", {
        build: {
          flakeRef,
          profile: "minimal",
          role: "worker",
          timeoutMs: 1000,
          storeOf: null,
          network: false,
        },
      });
    for (const ref of [
      "path:/root",
      "/etc",
      `path:${flake}/../../../..`,
      `${node.roots.configDir}/flakes/link`,
      `${node.roots.configDir}/flakes/link/..`,
    ]) {
      await assert.rejects(key(ref), NotTrustedError, ref);
    }
    await assert.rejects(
      key(`path:${flake}`),
      (error) => !(error instanceof NotTrustedError),
      "it is read, and this host is not prepared to build",
    );
  });

  it("another user may not even connect, and is told what to do", async () => {
    const { exitCode, stderr } = await node.agent(["net", "verify"], {}, stranger);
    assert.equal(exitCode, 7, stderr);
    assert.match(stderr, /may not ask hostd/);
  });

  for (const [point, args] of [
    ["key:made", ["tenant", "create", "beta"]],
    ["network:applied", ["net", "repair"]],
  ] as const) {
    it(`hostd is killed right after ${point} and started again: the command goes on and ends well`, async () => {
      const { exitCode, stderr } = await withDeathAt(point, ...args);
      assert.equal(exitCode, 0, stderr);
      await agent("net", "repair");
      await agent("net", "verify");
    });
  }

  it("a second hostd does not begin beside the first", async () => {
    const { exitCode, stderr } = await node.roots.mvm(["hostd", "serve"], {
      namespace: node.namespace,
      interruptAfterMs: 3000,
    });
    assert.notEqual(exitCode, 0);
    assert.doesNotMatch(stderr, /listening/);
    await client().call("Describe", {});
  });

  it("the daemon serves as a user without capabilities; it is killed, started again, and ended in good order", async () => {
    const made = await node.roots.mvm(["agent", "certs", "init"], { namespace: node.namespace });
    assert.equal(made.exitCode, 0, made.stderr);
    assert.equal(await ownerOf(state("certs", "node.key")), `${byAgentd} 600`);
    const listen = ["--listen", "127.0.0.1:0", "--metrics-port", "0"];
    const serve = ["agent", "serve", "--hostd-socket", node.socket, ...listen];
    const first = node.begin(serve);
    await first.says(/serves on/);
    assert.equal(await ownerOf(join(node.roots.runDir, "agent.sock")), `${byAgentd} 660`);
    await first.end("SIGKILL");
    const second = node.begin(serve);
    await second.says(/serves on/);
    // hostd goes away and comes back under it.
    await node.endHostd("SIGKILL");
    await node.startHostd();
    await agent("net", "verify");
    assert.equal(await second.end("SIGTERM"), 0);
  });

  it("the leaks of a node are found by a user without capabilities, with what only root can see", async () => {
    await mkdir(join(node.roots.runDir, "i", "i-0000000f"), { mode: 0o700 });
    await writeFile(state("keys", "gone.key"), Buffer.alloc(32), { mode: 0o600 });
    const { exitCode, stdout } = await node.agent(["doctor", "--leaks", "--json"]);
    await rm(join(node.roots.runDir, "i", "i-0000000f"), { recursive: true });
    await rm(state("keys", "gone.key"));
    const found = (JSON.parse(stdout) as { kind: string; name: string }[]).map(
      ({ kind, name }) => `${kind} ${name.slice(node.roots.folder.length)}`,
    );
    assert.deepEqual(found.toSorted(), [
      "key /state/keys/gone.key",
      "run-folder /run/i/i-0000000f",
    ]);
    assert.equal(exitCode, 1);
  });

  it("a tenant that is destroyed leaves no record, no key and no bridge", async () => {
    for (const tenant of ["acme", "beta"]) {
      await agent("tenant", "destroy", tenant, "--force", "--wipe-volumes", "--yes");
    }
    assert.deepEqual(await readdir(state("keys")), []);
    assert.doesNotMatch(await node.namespace.run("ip", ["link"]), /br-tenant/);
    const left = await client().call("NetworkInventory", {});
    assert.deepEqual([left.bridges, left.taps, left.dnsServers], [[], [], []]);
  });

  it("what root made in one process is handed over once, goes on through hostd, and root may go on with it too", async () => {
    await using roots = await emptyRoots();
    const run = async (args: readonly string[]): Promise<void> => {
      const { exitCode, stderr } = await roots.mvm(args, { namespace: node.namespace });
      assert.equal(exitCode, 0, stderr);
    };
    await run(["tenant", "create", "old"]);
    await run(["pool", "create", "old/web", "--flake", "builtin:hello"]);
    const place = (...names: string[]): string => join(roots.stateDir, "tenants", "old", ...names);
    assert.equal(await ownerOf(place("tenant.json")), "0:0 600");
    const secret = join(roots.folder, "host-secret");
    await writeFile(secret, "root's\n", { mode: 0o600 });
    await symlink(secret, place("secrets.json"));
    assert.ok((await handOver(roots, agentd)) > 0);
    assert.equal(await handOver(roots, agentd), 0, "the second time there is nothing to do");
    assert.equal(await ownerOf(place("tenant.json")), `${byAgentd} 600`);
    assert.equal(await ownerOf(place("pools", "web")), `0:${agentd.gid} 1770`);
    assert.equal(await ownerOf(secret), "0:0 600", "what a link leads to is not given away");
    await run(["pool", "update", "old/web", "--mem", "300"]);
    await run(["pool", "create", "old/new", "--flake", "builtin:hello"]);
    for (const name of ["web", "new"]) {
      assert.equal(await ownerOf(place("pools", name, "pool.json")), `${byAgentd} 600`);
      assert.equal(await ownerOf(place("pools", name)), `0:${agentd.gid} 1770`);
    }
    assert.equal(await ownerOf(place("audit.log")), `${byAgentd} 600`);
    assert.equal(
      await ownerOf(join(roots.stateDir, "locks", "tenant-old.lock")),
      `${byAgentd} 600`,
    );
    await run(["tenant", "destroy", "old", "--force", "--yes"]);
  });

  it("a state that was not handed over is refused by hostd, with what to do", async () => {
    await using roots = await emptyRoots();
    const { exitCode, stderr } = await roots.mvm(["hostd", "serve"], { namespace: node.namespace });
    assert.equal(exitCode, 7);
    assert.match(stderr, /mvm add host/);
  });

  it("an instance's VMM that hostd does not find is gone, whatever agentd says of it", async () => {
    const vmm = { id: instance.instance, pid: process.pid, startTicks: 1 };
    await client().call("VmmStop", { vmm, graceMs: 0 });
    await assert.rejects(client().call("VmmPause", { vmm }), OperationError);
  });
});
