import assert from "node:assert/strict";
import { readFile, readdir, stat, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { OperationError } from "../../src/domain/errors.ts";
import { parseInstanceAddress, parseTenantId } from "../../src/domain/ids.ts";
import { integrationUid, secretsFiles } from "../../src/domain/secret-scopes.ts";
import { HostDrives } from "../../src/host/drives/host-drives.ts";
import { HostExec } from "../../src/host/exec.ts";
import { RemoteDrives } from "../../src/host/hostd/remote-drives.ts";
import type { HostdContext } from "../../src/node/hostd/context.ts";
import { driveHandlers } from "../../src/node/hostd/drive-handlers.ts";
import { Turns } from "../../src/node/hostd/turns.ts";
import type { DriveRequest, Drives } from "../../src/ports/drives.ts";
import type { HostdHandlers } from "../../src/ports/hostd.ts";
import type { GuestConfig } from "../../src/protocol/guest-config.ts";
import type { Exec } from "../../src/ports/exec.ts";
import { HostdLink } from "../builders/hostd-link.ts";
import { type TestRoots, emptyRoots } from "../test-host.ts";

const tmpfsMagic = 0x01021994;
const canary = "canary-5e81f0";
const host = new HostExec();
const instance = parseInstanceAddress("acme/web/i-0000000a");
const config: GuestConfig = {
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
};

function allSecrets(values: Readonly<Record<string, string>>): DriveRequest["secrets"] {
  return secretsFiles([], values);
}

function request(changes: Partial<DriveRequest> = {}): DriveRequest {
  return {
    instance,
    dataDiskMib: 16,
    config,
    secrets: allSecrets({ API_KEY: canary }),
    ...changes,
  };
}

/** What debugfs says of a file in an image. */
async function inImage(image: string, command: string): Promise<string> {
  return (await host.run("debugfs", ["-R", command, image], { timeoutMs: 10_000 })).stdout;
}

async function mountsBelow(folder: string): Promise<string[]> {
  const lines = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  return lines.filter((line) => line.split(" ")[4]?.startsWith(`${folder}/`) === true);
}

const skip = process.getuid?.() === 0 ? false : "needs root";
/** The ways to an instance's drives: in this process, and through hostd. */
const ways: readonly {
  readonly name: string;
  readonly make: (roots: TestRoots) => Promise<Way>;
}[] = [
  {
    name: "in one process",
    make: async (roots) => ({ drives: new HostDrives(roots, host), end: async () => undefined }),
  },
  {
    name: "through hostd",
    make: async (roots) => {
      const link = await HostdLink.make(
        driveHandlersOn(new HostDrives(roots, host)) as HostdHandlers,
      );
      return {
        drives: new RemoteDrives(link.client, roots),
        end: () => link[Symbol.asyncDispose](),
      };
    },
  },
];

interface Way {
  readonly drives: Drives;
  readonly end: () => Promise<void>;
}

function driveHandlersOn(drives: HostDrives): Partial<HostdHandlers> {
  const context = {
    drives,
    turns: new Turns(),
    settings: { vmUidBase: 0, instanceRunRoot: "/nowhere" },
    vmm: { list: async () => [] },
  };
  return driveHandlers(context as unknown as HostdContext);
}

for (const { name, make } of ways) {
  describe(`an instance's drives on a real host, ${name}`, { skip }, () => {
    let roots: TestRoots;
    let drives: Drives;
    let end: Way["end"];

    before(async () => {
      roots = await emptyRoots();
      ({ drives, end } = await make(roots));
    });
    afterEach(async () => {
      await drives.release(instance);
      await drives.destroy(instance, true);
    });
    after(async () => {
      await end();
      await roots[Symbol.asyncDispose]();
    });

    const volumes = (): string =>
      join(roots.stateDir, "tenants/acme/pools/web/instances/i-0000000a/volumes");

    it("config is a file that everybody in the guest may read, and nobody of the host but root", async () => {
      const { config: image } = await drives.prepare(request());
      assert.deepEqual(JSON.parse(await inImage(image, "cat config.json")), config);
      const inode = await inImage(image, "stat config.json");
      assert.match(inode, /Mode:\s+0444\b/);
      assert.match(inode, /User:\s+0\s+Group:\s+0\b/);
      assert.equal((await stat(image)).mode & 0o7777, 0o600);
    });

    it("secrets are a file that the guest's workload alone may read", async () => {
      const { secrets: image } = await drives.prepare(request());
      assert.deepEqual(JSON.parse(await inImage(image, "cat secrets.json")), { API_KEY: canary });
      const inode = await inImage(image, "stat secrets.json");
      assert.match(inode, /Mode:\s+0400\b/);
      assert.match(inode, /User:\s+1000\s+Group:\s+1000\b/);
      assert.equal((await stat(image)).mode & 0o7777, 0o600);
    });

    it("with scopes each integration's secrets are its user's alone, and there is no other file", async () => {
      const values = { BOT_TOKEN: canary, API_KEY: "other" };
      const scopes = [
        { integration: "telegram", keys: ["BOT_TOKEN"] },
        { integration: "worker", keys: ["API_KEY"] },
      ];
      const { secrets: image } = await drives.prepare(
        request({ secrets: secretsFiles(scopes, values) }),
      );
      const names = (await inImage(image, "ls -p /"))
        .split("\n")
        .map((line) => line.split("/")[5])
        .filter((name) => name !== undefined && /^\w+$/.test(name));
      assert.deepEqual(new Set(names), new Set(["telegram", "worker"]));
      const file = "telegram/secrets.json";
      assert.deepEqual(JSON.parse(await inImage(image, `cat ${file}`)), { BOT_TOKEN: canary });
      const uid = integrationUid("telegram");
      const owner = new RegExp(`User:\\s+${uid}\\s+Group:\\s+${uid}\\b`);
      assert.match(await inImage(image, `stat ${file}`), /Mode:\s+0400\b/);
      assert.match(await inImage(image, `stat ${file}`), owner);
      assert.match(await inImage(image, "stat telegram"), /Mode:\s+0500\b/);
      assert.match(await inImage(image, "stat telegram"), owner);
      assert.match(await inImage(image, "stat worker/secrets.json"), /User:\s+1000\b/);
      await host.run("e2fsck", ["-fn", image], { timeoutMs: 10_000 });
    });

    it("as many secrets as scopes may name fit their drive", async () => {
      const values = { API_KEY: "x".repeat(250 * 1024) };
      const scopes = Array.from({ length: 16 }, (_, index) => ({
        integration: `integration-${index}`,
        keys: ["API_KEY"],
      }));
      const { secrets: image } = await drives.prepare(
        request({ secrets: secretsFiles(scopes, values) }),
      );
      const last = await inImage(image, "cat integration-15/secrets.json");
      assert.deepEqual(JSON.parse(last), values);
    });

    it("secrets lie in a tmpfs of the instance's own, for root alone", async () => {
      const { secrets } = await drives.prepare(request());
      const { runDir } = drives.folders(instance);
      assert.equal(join(runDir, "secrets.ext4"), secrets);
      assert.equal((await statfs(runDir)).type, tmpfsMagic);
      assert.equal((await stat(runDir)).mode & 0o7777, 0o700);
      const [mount] = await mountsBelow(roots.folder);
      for (const option of ["nosuid", "nodev", "noexec"]) assert.ok(mount?.includes(option), mount);
    });

    it("no value of a secret is anywhere below the state folder", async () => {
      await drives.prepare(request());
      const found: string[] = [];
      for (const name of await readdir(roots.stateDir, { recursive: true })) {
        const path = join(roots.stateDir, name);
        if (!(await stat(path)).isFile()) continue;
        if ((await readFile(path)).includes(canary)) found.push(path);
      }
      assert.deepEqual(found, []);
    });

    it("nothing that a drive was staged from stays", async () => {
      await drives.prepare(request());
      assert.deepEqual(await readdir(drives.folders(instance).runDir), ["secrets.ext4"]);
      assert.deepEqual((await readdir(volumes())).toSorted(), ["config.ext4", "data.ext4"]);
    });

    it("file systems are whole", async () => {
      const { config: image, secrets, data } = await drives.prepare(request());
      for (const path of [image, secrets, data ?? ""]) {
        await host.run("e2fsck", ["-fn", path], { timeoutMs: 10_000 });
      }
    });

    it("as many secrets as may be set fit their drive", async () => {
      const large = { API_KEY: "x".repeat(250 * 1024) };
      const { secrets } = await drives.prepare(request({ secrets: allSecrets(large) }));
      assert.deepEqual(JSON.parse(await inImage(secrets, "cat secrets.json")), large);
    });

    it("secrets are never written where there is no tmpfs", async () => {
      // A mount program that does nothing.
      const noMount: Exec = {
        run: (program, args, options) =>
          program === "mount"
            ? Promise.resolve({ exitCode: 0, stdout: "", stderr: "" })
            : host.run(program, args, options),
        tryRun: (program, args, options) => host.tryRun(program, args, options),
      };
      await assert.rejects(new HostDrives(roots, noMount).prepare(request()), (error) => {
        assert.ok(error instanceof OperationError);
        assert.match(error.message, /not in tmpfs/);
        return true;
      });
      assert.deepEqual(await readdir(drives.folders(instance).runDir), []);
    });

    it("doing it twice mounts once, and keeps what the guest wrote to its data disk", async () => {
      const { data } = await drives.prepare(request());
      assert.ok(data !== undefined);
      await host.run("debugfs", ["-w", "-R", "mkdir kept", data], { timeoutMs: 10_000 });
      const again = await drives.prepare(request({ secrets: allSecrets({ API_KEY: "new" }) }));
      assert.equal((await mountsBelow(roots.folder)).length, 1);
      assert.match(await inImage(data, "ls -p /"), /\/kept\//);
      assert.deepEqual(JSON.parse(await inImage(again.secrets, "cat secrets.json")), {
        API_KEY: "new",
      });
    });

    it("a data disk has its size and takes only what is used of it", async () => {
      const { data } = await drives.prepare(request({ dataDiskMib: 256 }));
      const file = await stat(data ?? "");
      assert.equal(file.size, 256 * 1024 ** 2);
      assert.ok(file.blocks * 512 < 64 * 1024 ** 2, `${file.blocks * 512} bytes are used`);
    });

    it("a data disk that was half made is made anew and never taken for one", async () => {
      await drives.prepare(request({ dataDiskMib: 0 }));
      await writeFile(join(volumes(), "data.ext4.tmp"), "half a file system");
      const { data } = await drives.prepare(request());
      await host.run("e2fsck", ["-fn", data ?? ""], { timeoutMs: 10_000 });
      assert.ok(!(await readdir(volumes())).includes("data.ext4.tmp"));
    });

    it("an instance without a data disk has none", async () => {
      assert.equal((await drives.prepare(request({ dataDiskMib: 0 }))).data, undefined);
      assert.deepEqual(await readdir(volumes()), ["config.ext4"]);
    });

    it("release leaves neither mount nor folder, and doing it again is no error", async () => {
      await drives.prepare(request());
      await drives.release(instance);
      await drives.release(instance);
      assert.deepEqual(await mountsBelow(roots.folder), []);
      assert.deepEqual(await readdir(join(roots.runDir, "i")), []);
    });

    it("destroying an instance keeps its data disk unless it is to be wiped", async () => {
      await drives.prepare(request());
      await drives.release(instance);
      await drives.destroy(instance, false);
      assert.deepEqual(await readdir(volumes()), ["data.ext4"]);
      await drives.destroy(instance, true);
      await assert.rejects(readdir(volumes()), { code: "ENOENT" });
    });

    it("wiping a tenant removes kept data disks and none of an instance that has its record", async () => {
      const living = parseInstanceAddress("acme/web/i-0000000b");
      for (const address of [instance, living]) {
        const own = { ...config, instance_id: address.instance };
        await drives.prepare(request({ instance: address, config: own }));
        await drives.release(address);
      }
      await drives.destroy(instance, false);
      const folder = join(roots.stateDir, "tenants/acme/pools/web/instances");
      await writeFile(join(folder, "i-0000000b", "instance.json"), "{}");
      await drives.wipeTenant(parseTenantId("acme"));
      assert.deepEqual(await readdir(folder), ["i-0000000b"]);
      assert.ok((await readdir(join(folder, "i-0000000b", "volumes"))).includes("data.ext4"));
      await drives.destroy(living, true);
    });
  });
}
