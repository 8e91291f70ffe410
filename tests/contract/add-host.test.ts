import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { makeDevelopmentCa } from "../../src/host/pki.ts";
import { type MvmResult, type TestRoots, freshRoots, projectDir } from "../test-host.ts";

const timeoutMs = 300_000;
const kills = 4;

/** `mvm add host` on a machine whose packages and payloads are prepared: what it makes of identity and trust. */
const skip = process.getuid?.() === 0 ? false : "needs root";
describe("adding a host to a fleet", { skip }, () => {
  let roots: TestRoots;
  let flags: string[];

  before(async () => {
    roots = await freshRoots();
    const ca = join(roots.folder, "ca.crt");
    const key = join(roots.folder, "coordinator.pub");
    await writeFile(ca, (await makeDevelopmentCa("coordinator", Date.now())).certificatePem);
    await writeFile(key, `${Buffer.alloc(32, 9).toString("base64")}\n`);
    flags = ["--ca", ca, "--signing-key", key];
  });
  after(() => roots[Symbol.asyncDispose]());

  const addHost = (...more: string[]): Promise<MvmResult> =>
    roots.mvm(["add", "host", ...more], { timeoutMs });
  const findings = async (): Promise<Map<string, { status: string; detail: string }>> => {
    const { stdout } = await roots.mvm(["doctor", "--json"]);
    const all = JSON.parse(stdout) as { feature: string; status: string; detail: string }[];
    return new Map(all.map((finding) => [finding.feature, finding]));
  };

  it("goes on after it was killed, at any time", async () => {
    for (let kill = 0; kill < kills; kill += 1) {
      const child = spawn(join(projectDir, "bin", "mvm"), ["add", "host", ...flags], {
        env: { ...process.env, ...roots.env },
        stdio: "ignore",
      });
      const ended = once(child, "exit");
      await Promise.race([ended, delay(300 + kill * 400, undefined, { ref: false })]);
      child.kill("SIGKILL");
      await ended;
    }
    const { exitCode, stderr } = await addHost(...flags);
    assert.equal(exitCode, 0, stderr);
    const names = (await readdir(join(roots.stateDir, "certs"))).filter(
      (name) => !name.startsWith("."),
    );
    assert.deepEqual(names.toSorted(), ["ca.crt", "node.csr", "node.key"]);
    assert.equal((await readdir(join(roots.configDir, "trusted_keys"))).length, 1);
  });

  it("twice at once is once, and changes nothing that is there", async () => {
    const before = await readFile(join(roots.stateDir, "certs", "node.key"), "utf8");
    const nodeId = await readFile(join(roots.stateDir, "node_id"), "utf8");
    const results = await Promise.all([addHost(...flags), addHost(...flags)]);
    for (const { exitCode, stderr } of results) assert.equal(exitCode, 0, stderr);
    assert.equal(await readFile(join(roots.stateDir, "certs", "node.key"), "utf8"), before);
    assert.equal(await readFile(join(roots.stateDir, "node_id"), "utf8"), nodeId);
    assert.equal((await readdir(join(roots.configDir, "trusted_keys"))).length, 1);
  });

  it("another CA is refused, and nothing is overwritten", async () => {
    const other = join(roots.folder, "other.crt");
    await writeFile(other, (await makeDevelopmentCa("other", Date.now())).certificatePem);
    const before = await readFile(join(roots.stateDir, "certs", "ca.crt"), "utf8");
    const { exitCode, stderr } = await addHost("--ca", other);
    assert.equal(exitCode, 4, stderr);
    assert.match(stderr, /never overwritten/);
    assert.equal(await readFile(join(roots.stateDir, "certs", "ca.crt"), "utf8"), before);
  });

  it("doctor tells whose CA it is, who is believed, and what production would need", async () => {
    const found = await findings();
    assert.equal(found.get("certificate authority")?.status, "ok");
    assert.equal(found.get("signing keys")?.status, "ok");
    assert.match(found.get("production")?.detail ?? "", /development/);
    for (const feature of ["core dumps", "disk encryption", "Firecracker", "swap", "cgroup v2"]) {
      assert.ok(found.has(feature), feature);
    }
  });

  it("production is recorded, and what it cannot keep is named", async (test) => {
    const swaps = (await readFile("/proc/swaps", "utf8")).trim().split("\n");
    if (swaps.length > 1) {
      test.skip("this machine has plain swap, which production refuses");
      return;
    }
    const { exitCode, stdout, stderr } = await addHost("--production");
    assert.equal(exitCode, 0, stderr);
    assert.match(stdout, /enforced: signature: [^]*NOT ENFORCED: runtime-isolation: /);
    const production = (await findings()).get("production");
    assert.equal(production?.status, "missing");
    assert.match(production.detail, /no microVM starts: this node lacks .*runtime-isolation/);
    // A record that cannot be read is not taken for a development node.
    await mkdir(roots.configDir, { recursive: true });
    await writeFile(join(roots.configDir, "node.json"), "{");
    const refused = await roots.mvm(["tenant", "create", "acme"]);
    assert.equal(refused.exitCode, 1, refused.stderr);
    assert.match(refused.stderr, /node\.json is corrupt/);
  });
});
