import assert from "node:assert/strict";
import { mkdir, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { OperationError } from "../../src/domain/errors.ts";
import { parseTenantId } from "../../src/domain/ids.ts";
import { sha256OfFile } from "../../src/host/files.ts";
import { FileLocks } from "../../src/host/store/file-locks.ts";
import { vmUids } from "../../src/host/vmm/uids.ts";
import { narHash } from "../../src/image/nar.ts";
import { BuilderHost, build, exec, preparedDir, projectDir } from "./builder-host.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";

describe("building an image in a builder microVM", { skip }, () => {
  let host: BuilderHost;
  before(async () => {
    host = await BuilderHost.make();
  });
  after(() => host.remove());

  it("gives the same image, bit for bit, for the same flake built twice", async () => {
    const first = await host.build("builtin:hello");
    await rm(join(host.root, "state", "images"), { recursive: true });
    const second = await host.build("builtin:hello");
    assert.deepEqual(
      { hash: second.hash, kernel: second.kernel, initrd: second.initrd, rootfs: second.rootfs },
      { hash: first.hash, kernel: first.kernel, initrd: first.initrd, rootfs: first.rootfs },
    );
    assert.ok(second.rootfs.sizeBytes <= 160 * 1024 * 1024, `${second.rootfs.sizeBytes} bytes`);
    assert.equal((await stat(host.imageFile(second, "rootfs.ext4"))).size, second.rootfs.sizeBytes);
    await exec.run("e2fsck", ["-fn", host.imageFile(second, "rootfs.ext4")], { timeoutMs: 60_000 });
    await host.assertNothingLeft(0);
  });

  it("puts the package, the guest agent and the services into the root file system", async () => {
    const revision = await host.build("builtin:hello", { cache: true });
    const service = JSON.parse(await host.show(revision, "/etc/mvm/services/hello.json")) as {
      command: string[];
      port: number;
    };
    assert.equal(service.port, 8080);
    assert.match(await host.show(revision, service.command[0] ?? ""), /exec \/usr\/bin\/node/);
    assert.ok((await host.show(revision, "/usr/lib/mvm/agent.mjs")).length > 1000);
  });

  it("answers the same request from the store, and another folder with the same flake too", async () => {
    const first = await host.build("builtin:hello", { cache: true });
    const copy = join(host.root, "copy");
    await exec.run("cp", ["-a", join(projectDir, "nix", "flakes", "hello"), copy], {
      timeoutMs: 10_000,
    });
    const startedMs = performance.now();
    const second = await host.build(`path:${copy}`, { cache: true });
    assert.equal(second.hash, first.hash);
    assert.ok(performance.now() - startedMs < 3000);
  });

  it("makes one image of two requests for it at once, and of the same flake of another pool", async () => {
    const flake = await host.derivation("one-build", "$b mkdir -p $out/bin; $b cp $b $out/bin/app");
    const locks = new FileLocks({ ...host.roots, stateDir: host.stateDir });
    const before = host.progress.length;
    const request = async (): Promise<string> => {
      const key = await host.key(flake);
      return locks.withBuild(key, "building", async () => {
        return (await host.build(flake, { cache: true })).hash;
      });
    };
    const hashes = await Promise.all([request(), request()]);
    assert.equal(hashes[0], hashes[1]);
    const lines = host.progress.slice(before);
    assert.equal(lines.filter((line) => line === "starting the builder microVM").length, 1);
    assert.equal(lines.filter((line) => /was built before/.test(line)).length, 1);
  });

  it("records what the flake and its inputs were locked to, as the host and Nix both found them", async () => {
    const revision = await host.build("builtin:hello", { cache: true });
    const flakeHash = await narHash(join(projectDir, "nix", "flakes", "hello"));
    assert.equal(revision.nar_hash, flakeHash);
    assert.equal(revision.locked_url, `builtin:hello?narHash=${encodeURIComponent(flakeHash)}`);
    assert.deepEqual(
      revision.inputs.map(({ name, url }) => [name, url]),
      [["tools", "path:/mvm/tools"]],
    );
    assert.match(revision.inputs[0]?.nar_hash ?? "", /^sha256-.{43}=$/);
    assert.equal(revision.package, "default");
  });

  it("takes a complete image as the flake made it, and a tree of one as its root file system", async () => {
    const tree = await host.derivation(
      "tree",
      "$b mkdir -p $out/rootfs; $b cp $guest/kernel $out/kernel; $b ln -s $guest/initrd $out/initrd; $b tar -xf $guest/rootfs.tar -C $out/rootfs; echo own >$out/rootfs/etc/own",
      {
        attribute: "tenant-worker-minimal",
        files: { "mvm-profiles.toml": 'payloads = ["guest"]' },
      },
    );
    const asTree = await host.build(tree);
    assert.equal(asTree.package, "tenant-worker-minimal");
    assert.equal(await host.show(asTree, "/etc/own"), "own\n");
    assert.ok((await host.show(asTree, "/usr/lib/mvm/agent.mjs")).length > 1000);
    await exec.run("e2fsck", ["-fn", host.imageFile(asTree, "rootfs.ext4")], { timeoutMs: 60_000 });
    const prepared = join(preparedDir, "payloads", "kernel", "vmlinuz");
    assert.equal(asTree.kernel.sha256, await sha256OfFile(prepared));
    // The little of an ext4 that the host looks at: 4096 blocks of 1 KiB, and the magic number.
    const whole = await host.derivation(
      "whole",
      [
        "$b mkdir $out; $b printf '\\177ELF' >$out/kernel; $b ln -s kernel $out/initrd",
        "$b dd if=/dev/zero of=$out/rootfs.ext4 bs=1k count=4096",
        "$b printf '\\000\\020' | $b dd of=$out/rootfs.ext4 bs=1 seek=1028 conv=notrunc",
        "$b printf '\\123\\357' | $b dd of=$out/rootfs.ext4 bs=1 seek=1080 conv=notrunc",
      ].join("; "),
      { attribute: "tenant-minimal" },
    );
    const asImage = await host.build(whole);
    assert.equal(asImage.package, "tenant-minimal");
    assert.equal(asImage.rootfs.sizeBytes, 4096 * 1024);
    assert.equal(asImage.initrd.sha256, asImage.kernel.sha256);
    await host.assertNothingLeft(0);
  });

  it("lays the packages of modules over the base as well, and runs their services", async () => {
    const app = (name: string): string =>
      build(
        name,
        `$b mkdir -p $out/bin; $b printf '#!/bin/sh\\n' >$out/bin/${name}; $b chmod 755 $out/bin/${name}`,
      );
    const flake = await host.flake(
      "modules",
      `packages.x86_64-linux.default = ${app("app")}; packages.x86_64-linux.exporter = ${app("exporter")};`,
      {
        "mvm-profiles.toml": `
          [roles.worker]
          modules = ["metrics"]
          [modules.metrics]
          package = "exporter"
          [modules.metrics.services.metrics]
          command = "exporter --listen 9100"`,
      },
    );
    const worker = await host.build(flake);
    const service = JSON.parse(await host.show(worker, "/etc/mvm/services/metrics.json")) as {
      command: string[];
    };
    assert.match(await host.show(worker, service.command[0] ?? ""), /#!/);
    assert.match(await host.show(worker, "/etc/mvm/services/app.json"), /-app\/bin\/app/);
    const gateway = await host.build(flake, { role: "gateway" });
    assert.equal(await host.show(gateway, "/etc/mvm/services/metrics.json"), "");
  });

  it("builds a part once in a store that is kept, and again for another tenant", async () => {
    const flake = (text: string): Promise<string> =>
      host.flake(
        "kept",
        `packages.x86_64-linux.default = let part = ${build("part", "echo making the part; echo part >$out")}; in ${build(
          "whole",
          [
            "$b mkdir -p $out/bin; $b cp ${part} $out/part",
            `echo ${text} >$out/bin/app`,
            "$b chmod 755 $out/bin/app",
          ].join("; "),
        )};`,
      );
    const builtPart = async (tenant: string, text: string): Promise<boolean> => {
      const before = host.progress.length;
      await host.build(await flake(text), { cache: true, storeOf: parseTenantId(tenant) });
      return host.progress.slice(before).includes("part> making the part");
    };
    assert.equal(await builtPart("acme", "one"), true);
    assert.equal(await builtPart("acme", "two"), false);
    assert.equal(await builtPart("other", "three"), true);
    // What a tenant's own store had a part in is no answer for another one.
    assert.notEqual(
      await host
        .builder(true)
        .key({ ...host.request(await flake("one")), storeOf: parseTenantId("acme") }),
      await host.key(await flake("one")),
    );
    const before = host.progress.length;
    await host.build(await flake("one"), { cache: true });
    assert.ok(host.progress.slice(before).includes("starting the builder microVM"));
  });

  it("names the derivation that failed and keeps the log, and leaves nothing else", async () => {
    const error = await host
      .build(
        await host.derivation("failing", "echo this goes wrong; exit 3", { name: "broken-thing" }),
      )
      .then(
        () => assert.fail("it was built"),
        (error: unknown) => error,
      );
    assert.ok(error instanceof OperationError);
    assert.match(error.message, /broken-thing/);
    const log = /console is in (\S+)/.exec(error.hint ?? "")?.[1] ?? "";
    assert.match(await readFile(log, "utf8"), /this goes wrong/);
    await host.assertNothingLeft(1);
  });

  it("says what a flake offers when it offers nothing that fits", async () => {
    const flake = await host.flake("other", "packages.x86_64-linux.other = 1;");
    await assert.rejects(host.build(flake), /none of: .*minimal default - it has: other/);
  });

  it("ends when its time is over, and says so", async () => {
    await assert.rejects(
      host.builder(false).build({
        flakeRef: "builtin:hello",
        profile: "minimal",
        role: "worker",
        timeoutMs: 1500,
        onProgress: () => undefined,
      }),
      /did not end within 2 s/,
    );
    assert.deepEqual(await host.vmm.list(join(host.root, "run", "b")), []);
  });

  it("ends at once when it is interrupted, with its microVM", async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(new OperationError("interrupted")), 3000);
    await assert.rejects(
      host.builder(false).build({
        flakeRef: "builtin:hello",
        profile: "minimal",
        role: "worker",
        timeoutMs: 240_000,
        signal: abort.signal,
        onProgress: () => undefined,
      }),
    );
    assert.deepEqual(await host.vmm.list(join(host.root, "run", "b")), []);
  });

  it("is ended by a sweep once the mvm that began it is gone", async () => {
    const buildId = "b-00c0ffee";
    const folder = join(host.root, "state", "builds", buildId);
    await mkdir(folder, { recursive: true });
    const payloads = join(preparedDir, "payloads");
    await host.vmm.start({
      id: buildId,
      runDir: join(host.root, "run", "b", buildId),
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
    const removed = await host.builder(true).sweep();
    assert.deepEqual(removed, [`builder microVM ${buildId}`, `scratch files of build ${buildId}`]);
    assert.deepEqual(await host.vmm.list(join(host.root, "run", "b")), []);
    assert.ok(!(await readdir(join(host.root, "state", "builds"))).includes(buildId));
    assert.deepEqual(await host.builder(true).sweep(), []);
  });
});
