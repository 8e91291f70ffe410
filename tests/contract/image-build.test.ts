import assert from "node:assert/strict";
import { mkdtemp, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { OperationError } from "../../src/domain/errors.ts";
import type { Revision } from "../../src/domain/revision.ts";
import { HostExec } from "../../src/host/exec.ts";
import { preparePayloads } from "../../src/host/payloads/prepare.ts";
import { QemuVmm } from "../../src/host/vmm/qemu/qemu-vmm.ts";
import { vmUids } from "../../src/host/vmm/uids.ts";
import { MicrovmImageBuilder } from "../../src/image/microvm-image-builder.ts";

const projectDir = join(import.meta.dirname, "..", "..");
/** Downloaded once and kept beside the other downloads of a checkout; each test run has its own state. */
const preparedDir = join(projectDir, "node_modules", ".cache", "mvm-test");
const exec = new HostExec();
// The machine type that boots without knowing anything of this host.
const platform = { accelerator: "tcg", machine: "q35", tscKhz: null, qemuVersion: "" } as const;
const buildTimeoutMs = 240_000;

const skip = process.getuid?.() === 0 ? false : "needs root";

describe("building an image in a builder microVM", { skip }, () => {
  let root: string;
  let vmm: QemuVmm;
  const progress: string[] = [];

  before(async () => {
    await exec.run(process.execPath, [join(projectDir, "scripts", "bundle-guest.ts")], {
      timeoutMs: 60_000,
    });
    await preparePayloads({
      stateDir: preparedDir,
      projectDir,
      exec,
      onProgress: () => undefined,
      names: ["kernel", "base", "builder"],
    });
    root = await mkdtemp(join(tmpdir(), "mvm-image-"));
    await mkdir(join(root, "state"));
    await symlink(join(preparedDir, "payloads"), join(root, "state", "payloads"));
    vmm = new QemuVmm(() => Promise.resolve(platform));
  });
  after(() => rm(root, { recursive: true }));

  const builder = (cache: boolean): MicrovmImageBuilder =>
    new MicrovmImageBuilder({
      stateDir: join(root, "state"),
      runDir: join(root, "run"),
      projectDir,
      exec,
      vmm,
      uid: vmUids.builder,
      builtBy: "test",
      now: () => new Date(),
      cache,
    });
  const build = (flakeRef: string, cache = false): Promise<Revision> =>
    builder(cache).build({
      flakeRef,
      profile: "minimal",
      role: "worker",
      timeoutMs: buildTimeoutMs,
      onProgress: (line) => progress.push(line),
    });
  const imageFile = (revision: Revision, name: string): string =>
    join(root, "state", "images", revision.hash, name);
  const assertNothingLeft = async (kept: number): Promise<void> => {
    const builds = await readdir(join(root, "state", "builds"));
    assert.equal(builds.length, kept, `left behind: ${builds.join(", ")}`);
    assert.deepEqual(await vmm.list(join(root, "run", "b")), []);
    assert.deepEqual(await readdir(join(root, "run", "b")), []);
    const images = await readdir(join(root, "state", "images"));
    assert.deepEqual(
      images.filter((name) => name.startsWith(".")),
      [],
    );
  };

  it("gives the same image, bit for bit, for the same flake built twice", async () => {
    const first = await build("builtin:hello");
    await rm(join(root, "state", "images"), { recursive: true });
    const second = await build("builtin:hello");
    assert.deepEqual(
      { hash: second.hash, kernel: second.kernel, initrd: second.initrd, rootfs: second.rootfs },
      { hash: first.hash, kernel: first.kernel, initrd: first.initrd, rootfs: first.rootfs },
    );
    assert.ok(second.rootfs.sizeBytes <= 160 * 1024 * 1024, `${second.rootfs.sizeBytes} bytes`);
    assert.equal((await stat(imageFile(second, "rootfs.ext4"))).size, second.rootfs.sizeBytes);
    await exec.run("e2fsck", ["-fn", imageFile(second, "rootfs.ext4")], { timeoutMs: 60_000 });
    await assertNothingLeft(0);
  });

  it("puts the package, the guest agent and the services into the root file system", async () => {
    const revision = await build("builtin:hello", true);
    const show = async (path: string): Promise<string> =>
      (
        await exec.run("debugfs", ["-R", `cat ${path}`, imageFile(revision, "rootfs.ext4")], {
          timeoutMs: 30_000,
        })
      ).stdout;
    const service = JSON.parse(await show("/etc/mvm/services/hello.json")) as {
      command: string[];
      port: number;
    };
    assert.equal(service.port, 8080);
    assert.match(await show(service.command[0] ?? ""), /exec \/usr\/bin\/node/);
    assert.ok((await show("/usr/lib/mvm/agent.mjs")).length > 1000);
  });

  it("answers the same request from the store, and another folder with the same flake too", async () => {
    const first = await build("builtin:hello", true);
    const copy = join(root, "copy");
    await exec.run("cp", ["-a", join(projectDir, "nix", "flakes", "hello"), copy], {
      timeoutMs: 10_000,
    });
    const startedMs = performance.now();
    const second = await build(`path:${copy}`, true);
    assert.equal(second.hash, first.hash);
    assert.ok(performance.now() - startedMs < 3000);
  });

  it("names the derivation that failed and keeps the log, and leaves nothing else", async () => {
    const flake = join(root, "failing");
    await mkdir(flake);
    await writeFile(
      join(flake, "flake.nix"),
      `{
        inputs.tools = { url = "path:/mvm/tools"; flake = false; };
        outputs = { self, tools }: {
          packages.x86_64-linux.default = derivation {
            name = "broken-thing";
            system = "x86_64-linux";
            builder = "\${tools}/busybox";
            args = [ "sh" "-c" "echo this goes wrong; exit 3" ];
          };
        };
      }`,
    );
    const error = await build(`path:${flake}`).then(
      () => assert.fail("it was built"),
      (error: unknown) => error,
    );
    assert.ok(error instanceof OperationError);
    assert.match(error.message, /broken-thing/);
    const log = /console is in (\S+)/.exec(error.hint ?? "")?.[1] ?? "";
    assert.match(await readFile(log, "utf8"), /this goes wrong/);
    await assertNothingLeft(1);
  });

  it("says what a flake offers when it offers nothing that fits", async () => {
    const flake = join(root, "other");
    await mkdir(flake);
    await writeFile(
      join(flake, "flake.nix"),
      `{ outputs = { self }: { packages.x86_64-linux.other = 1; }; }`,
    );
    await assert.rejects(build(`path:${flake}`), /none of: .*minimal default - it has: other/);
  });

  it("ends when its time is over, and says so", async () => {
    await assert.rejects(
      builder(false).build({
        flakeRef: "builtin:hello",
        profile: "minimal",
        role: "worker",
        timeoutMs: 1500,
        onProgress: () => undefined,
      }),
      /did not end within 2 s/,
    );
    assert.deepEqual(await vmm.list(join(root, "run", "b")), []);
  });

  it("ends at once when it is interrupted, with its microVM", async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(new OperationError("interrupted")), 3000);
    await assert.rejects(
      builder(false).build({
        flakeRef: "builtin:hello",
        profile: "minimal",
        role: "worker",
        timeoutMs: buildTimeoutMs,
        signal: abort.signal,
        onProgress: () => undefined,
      }),
    );
    assert.deepEqual(await vmm.list(join(root, "run", "b")), []);
  });

  it("is ended by a sweep once the mvm that began it is gone", async () => {
    const buildId = "b-00c0ffee";
    const folder = join(root, "state", "builds", buildId);
    await mkdir(folder, { recursive: true });
    const payloads = join(preparedDir, "payloads");
    await vmm.start({
      id: buildId,
      runDir: join(root, "run", "b", buildId),
      logDir: join(folder, "logs"),
      uid: vmUids.builder,
      vcpus: 1,
      memMib: 256,
      kernelPath: join(payloads, "kernel", "vmlinuz"),
      // Any file: this guest never gets as far as to use it.
      initrdPath: join(payloads, "kernel", "modules", "order"),
      kernelArgs: ["panic=0"],
      drives: [],
      nics: [],
    });
    const record = {
      schema_version: 1,
      build_id: buildId,
      key: "0".repeat(64),
      flake_ref: "builtin:hello",
      started_at: "2026-01-01T00:00:00.000Z",
      owner: { pid: process.pid, startTicks: 1 },
    };
    await writeFile(join(folder, "build.json"), JSON.stringify(record));
    const removed = await builder(true).sweep();
    assert.deepEqual(removed, [`builder microVM ${buildId}`, `scratch files of build ${buildId}`]);
    assert.deepEqual(await vmm.list(join(root, "run", "b")), []);
    assert.ok(!(await readdir(join(root, "state", "builds"))).includes(buildId));
    assert.deepEqual(await builder(true).sweep(), []);
  });
});
