import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { MvmResult } from "../test-host.ts";
import { NodeUnderTest } from "./node-under-test.ts";

const deployTimeoutMs = 2_400_000;
const port = 18_789;

/** The whole main job: `mvm new openclaw`, with OpenClaw itself in the workers. */
describe("an OpenClaw deployment", () => {
  let node: NodeUnderTest;
  let created: MvmResult;

  before(async () => {
    node = await NodeUnderTest.make("openclaw");
    created = await node.try(["new", "openclaw", "demo"], { timeoutMs: deployTimeoutMs });
  });

  after(async () => {
    await node[Symbol.asyncDispose]();
  });

  it("comes up whole and healthy with one command", () => {
    assert.equal(created.exitCode, 0, created.stderr);
  });

  it("shows the dashboard that users were promised, line by line", async () => {
    const shown = await node.mvm("connect", "demo");
    const promised = [
      "Deployment: demo",
      "",
      "Network:",
      "  Gateway:  10.240.1.1",
      "  Subnet:   10.240.1.0/24",
      "  Bridge:   br-tenant-1",
      "",
      "Pools:",
      "  demo/gateways (role: gateway, 2vcpu/1024MiB, running: 1, warm: 0)",
      "  demo/workers  (role: worker, 2vcpu/1024MiB, running: 2, warm: 1)",
      "",
      "Instances:",
      "  demo/gateways/i-<id> Running ip=10.240.1.2",
      "  demo/workers/i-<id>  Running ip=10.240.1.3",
      "  demo/workers/i-<id>  Running ip=10.240.1.4",
      "  demo/workers/i-<id>  Warm    ip=10.240.1.5",
      "",
    ];
    const lines = shown.replaceAll(/i-[0-9a-f]{8}/g, "i-<id>").split("\n");
    assert.deepEqual(lines.slice(0, promised.length), promised);
    assert.equal(
      shown.slice(shown.indexOf("Quick reference:")),
      [
        "Quick reference:",
        "  Set secrets:    mvm tenant secrets set demo --from-file secrets.json",
        "  List instances: mvm instance list --tenant demo",
        "  Scale workers:  mvm pool scale demo/workers --running 4 --warm 2",
        "",
      ].join("\n"),
    );
  });

  it("answers OpenClaw's own health from the host on each running worker", async () => {
    const workers = (await node.instances("demo")).filter(
      ({ address, status }) => address.startsWith("demo/workers/") && status === "running",
    );
    assert.equal(workers.length, 2);
    for (const { ip } of workers) {
      const health = await node.get(`http://${ip}:${port}/healthz`, 30_000);
      assert.equal((JSON.parse(health) as { ok: boolean }).ok, true, health);
    }
  });

  it("reaches a worker through the gateway", async () => {
    const health = await node.get(`http://10.240.1.2:${port}/healthz`, 60_000);
    assert.equal((JSON.parse(health) as { ok: boolean }).ok, true, health);
  });

  it("has a generated access token, and says where it is", async () => {
    const file = join(node.roots.stateDir, "tenants", "demo", "secrets.json");
    const stored = JSON.parse(await readFile(file, "utf8")) as {
      generated: Record<string, string>;
    };
    assert.match(stored.generated["OPENCLAW_GATEWAY_TOKEN"] ?? "", /^[0-9a-f]{64}$/);
    assert.match(await node.mvm("connect", "demo"), /OPENCLAW_GATEWAY_TOKEN is in .*secrets\.json/);
  });

  it("keeps OpenClaw's state on the data disk", async () => {
    const instances = await node.instances("demo");
    const worker = instances.find(({ address }) => address.startsWith("demo/workers/"));
    assert.ok(worker);
    const mounts = await node.exec(worker.address, "grep", " /data ", "/proc/mounts");
    assert.match(mounts.stdout, /^\/dev\/vd. \/data ext4 rw/);
    const state = await node.exec(worker.address, "ls", "/data/openclaw");
    assert.match(state.stdout, /openclaw\.json/);
  });

  it("is left as it is by the same command run again", async () => {
    const before = await node.instances("demo");
    const again = await node.try(["new", "openclaw", "demo"]);
    assert.equal(again.exitCode, 0, again.stderr);
    assert.deepEqual(await node.instances("demo"), before);
  });

  it("is gone without a trace when it is destroyed", async () => {
    await node.mvm("tenant", "destroy", "demo", "--force", "--wipe-volumes", "--yes");
    assert.equal((await node.mvm("doctor", "--leaks")).trim(), "0 leaks");
    assert.equal((await node.namespace.run("nft", ["list", "ruleset"])).trim(), "");
  });
});
