import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { readManifest } from "../../../src/cli/manifest-file.ts";
import { UsageError } from "../../../src/domain/errors.ts";
import { parsePoolId } from "../../../src/domain/ids.ts";

const whole = `
tenant_id = "myapp"
secrets_file = "secrets.json"

[network]
tenant_net_id = 7
ipv4_subnet = "10.240.7.0/24"

[quotas]
max_running = 4

[[pools]]
pool_id = "gateways"
flake_ref = "builtin:hello"
role = "gateway"
instance_resources = { vcpus = 1, mem_mib = 256, data_disk_mib = 0 }
desired_counts = { running = 1 }
gateway_routes = [{ name = "web", listen_port = 80, pool_id = "web", target_port = 8080 }]

[[pools]]
pool_id = "web"
flake_ref = "builtin:hello"
instance_resources = { vcpus = 1, mem_mib = 256, data_disk_mib = 64 }
desired_counts = { running = 2, warm = 1 }
egress = { mode = "none" }
secret_scopes = [{ integration = "worker", keys = ["API_KEY"] }]
`;

describe("a deploy manifest", () => {
  let folder = "";
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-manifest-"));
    await writeFile(join(folder, "secrets.json"), '{"API_KEY": "canary-7f3a"}');
  });
  after(() => rm(folder, { recursive: true }));

  async function read(text: string): ReturnType<typeof readManifest> {
    const path = join(folder, "deploy.toml");
    await writeFile(path, text);
    return readManifest(path);
  }

  async function problemsOf(text: string): Promise<string> {
    let message = "";
    await assert.rejects(read(text), (error) => {
      assert.ok(error instanceof UsageError);
      message = error.message;
      return true;
    });
    return message;
  }

  test("is read with its defaults and the secrets beside it", async () => {
    const { manifest, secrets } = await read(whole);
    assert.equal(manifest.tenant_id, "myapp");
    assert.deepEqual(secrets, { API_KEY: "canary-7f3a" });
    const [gateways, web] = manifest.pools;
    assert.equal(gateways?.role, "gateway");
    assert.equal(web?.role, "worker");
    assert.equal(web?.profile, "minimal");
    assert.deepEqual(web?.desired_counts, { running: 2, warm: 1, sleeping: 0 });
    assert.deepEqual(web?.egress, { mode: "none" });
    assert.deepEqual(web?.secret_scopes, [{ integration: "worker", keys: ["API_KEY"] }]);
    assert.equal(gateways?.secret_scopes, undefined);
  });

  test("without a secrets file leaves secrets as they are", async () => {
    assert.equal((await read('tenant_id = "myapp"')).secrets, undefined);
  });

  test("that is no TOML is refused with line and column", async () => {
    assert.match(await problemsOf('tenant_id = "myapp"\npools = ['), /line 2, column \d+: /);
  });

  test("has every problem named at once, each with its place", async () => {
    const message = await problemsOf(`
tenant_id = "Not An Id"
surprise = 1
[quotas]
max_running = -1
[[pools]]
pool_id = "web"
role = "boss"
instance_resources = { vcpus = 0, mem_mib = 1, data_disk_mib = 0 }
desired_counts = { running = 101 }
egress = { mode = "allow" }
secret_scopes = [{ integration = "root", keys = ["A"] }]
`);
    for (const place of [
      /\n {2}tenant_id: /,
      /\n {2}the manifest: .*surprise/,
      /\n {2}quotas\.max_running: /,
      /\n {2}pools\[0\]\.flake_ref: /,
      /\n {2}pools\[0\]\.role: /,
      /\n {2}pools\[0\]\.instance_resources\.vcpus: /,
      /\n {2}pools\[0\]\.desired_counts\.running: /,
      /\n {2}pools\[0\]\.secret_scopes: the guest's account root is reserved/,
      /\n {2}pools\[0\]\.egress: egress allow names neither/,
    ]) {
      assert.match(message, place);
    }
  });

  test("that contradicts itself is refused", async () => {
    const message = await problemsOf(
      whole
        .replace('pool_id = "gateways"', 'pool_id = "web"')
        .replace('role = "gateway"', 'role = "worker"')
        .replace('pool_id = "web", target', 'pool_id = "nowhere", target')
        .replace("tenant_net_id = 7", "tenant_net_id = 8")
        .replace("secrets.json", "none.json"),
    );
    assert.match(message, /pools\[1\]\.pool_id: web is there twice/);
    assert.match(message, /pools\[0\]\.gateway_routes: only a pool of the role gateway/);
    assert.match(message, /gateway_routes\[0\]\.pool_id: there is no pool nowhere/);
    assert.match(message, /network: net id 8 has subnet 10\.240\.8\.0\/24/);
    assert.match(message, /secrets_file: .*none\.json cannot be read/);
  });

  test("may have routes to the pools of a template that it completes", async () => {
    const path = join(folder, "routes.toml");
    await writeFile(path, whole.replace('pool_id = "web", target', 'pool_id = "workers", target'));
    await assert.rejects(readManifest(path), /there is no pool workers/);
    await readManifest(path, [parsePoolId("workers")]);
  });

  test("never has a value of a secret in an error", async () => {
    await writeFile(join(folder, "bad.json"), '{"API_KEY": "canary-7f3a", "OTHER": 5}');
    const message = await problemsOf(whole.replace("secrets.json", "bad.json"));
    assert.match(message, /OTHER/);
    assert.doesNotMatch(message, /canary/);
  });
});
