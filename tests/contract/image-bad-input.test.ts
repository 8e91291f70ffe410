import assert from "node:assert/strict";
import { mkdir, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type ErrorCode, MvmError } from "../../src/domain/errors.ts";
import { type BuildOptions, BuilderHost, exec } from "./builder-host.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";

describe("a flake that cannot become an image", { skip }, () => {
  let host: BuilderHost;
  before(async () => {
    host = await BuilderHost.make();
  });
  after(() => host.remove());

  /** Builds, and asserts that it fails with one error and leaves at most its log. */
  async function fails(
    flake: string,
    code: ErrorCode,
    message: RegExp,
    options: BuildOptions = {},
  ): Promise<MvmError> {
    const error = await host.build(flake, options).then(
      () => assert.fail("it was built"),
      (error: unknown) => error,
    );
    assert.ok(error instanceof MvmError, String(error));
    assert.match(error.message, message);
    assert.equal(error.code, code);
    const builds = await readdir(join(host.stateDir, "builds")).catch(() => []);
    for (const name of builds) assert.match(name, /^[0-9a-f]{64}$/);
    assert.deepEqual(await readdir(join(host.root, "run", "b")).catch(() => []), []);
    assert.deepEqual(await host.vmm.list(join(host.root, "run", "b")), []);
    const images = await readdir(join(host.stateDir, "images")).catch(() => []);
    assert.deepEqual(
      images.filter((name) => name !== "by-key"),
      [],
    );
    return error;
  }

  const scripts: readonly [string, string, ErrorCode, RegExp][] = [
    ["makes nothing", "exit 0", "failed", /nothing.*failed to produce output path/],
    [
      "has several programs and does not say which to run",
      "$b mkdir -p $out/bin; for n in one two; do $b touch $out/bin/$n; $b chmod 755 $out/bin/$n; done",
      "usage",
      /more than one program: one, two/,
    ],
    ["has no program", "$b mkdir $out", "usage", /no program, so there is nothing to run/],
    [
      "makes a file of a hundred gigabytes with nothing in it",
      "$b mkdir $out; $b truncate -s 107374182400 $out/sparse",
      "failed",
      /derivation .* failed/,
    ],
    [
      "has a link that climbs out of its root",
      "$b mkdir $out; $b ln -s ../../../../etc/shadow $out/link",
      "failed",
      /link .* leads out of the tree/,
    ],
    [
      "has a name with a newline",
      "$b mkdir $out; $b touch \"$out/a$($b printf '\\nb')\"",
      "failed",
      /name .* is not allowed/,
    ],
    [
      "makes a device node",
      "$b mkdir $out; $b mknod $out/disk b 254 0",
      "failed",
      /derivation .* failed/,
    ],
    ["makes a pipe", "$b mkdir $out; $b mkfifo $out/pipe", "failed", /unsupported type/],
  ];
  for (const [what, script, code, message] of scripts) {
    it(`is named with its error when it ${what}`, async () => {
      await fails(await host.derivation("nothing", script), code, message);
    });
  }

  it("may have hard links, which become files of their own", async () => {
    const flake = await host.derivation(
      "hard-links",
      "$b mkdir -p $out/bin; $b printf '#!/bin/sh\\n' >$out/bin/app; $b chmod 755 $out/bin/app; $b ln $out/bin/app $out/other",
    );
    const revision = await host.build(flake);
    assert.equal(revision.package, "default");
    await rm(join(host.stateDir, "images"), { recursive: true });
  });

  const images: readonly [string, string, RegExp][] = [
    [
      "has no kernel",
      "$b touch $out/initrd $out/rootfs.ext4",
      /complete image and has no file kernel/,
    ],
    [
      "has no root file system",
      "$b touch $out/kernel $out/initrd",
      /neither a file rootfs.ext4 nor a folder rootfs/,
    ],
    [
      "has garbage for a kernel",
      "$b touch $out/kernel $out/initrd $out/rootfs.ext4",
      /kernel is neither a bzImage nor an ELF file/,
    ],
    [
      "has garbage for a root file system",
      "$b printf '\\177ELF' >$out/kernel; $b touch $out/initrd; $b dd if=/dev/urandom of=$out/rootfs.ext4 bs=64k count=1",
      /rootfs.ext4 is no ext4 file system/,
    ],
  ];
  for (const [what, script, message] of images) {
    it(`is named with its error when its complete image ${what}`, async () => {
      const flake = await host.derivation("image", `$b mkdir $out; ${script}`, {
        attribute: "tenant-minimal",
      });
      await fails(flake, "failed", message);
    });
  }

  it("is ended when its evaluation does not end", async () => {
    const flake = await host.flake(
      "loop",
      "packages.x86_64-linux.default = let r = n: builtins.foldl' (a: _: if n == 0 then a else r (n - 1)) 0 (builtins.genList (x: x) 10); in r 30;",
    );
    await fails(flake, "failed", /did not end within 20 s/, { timeoutMs: 20_000 });
  });

  it("is ended when its build does not end, however much it prints", async () => {
    const flake = await host.derivation("chatty", "while :; do $b echo and on and on and on; done");
    const error = await fails(flake, "failed", /did not end within|printed more than/, {
      timeoutMs: 40_000,
    });
    const log = /console is in (\S+)/.exec(error.hint ?? "")?.[1] ?? "";
    assert.ok((await stat(log)).size <= 4 * 1024 ** 2);
  });

  it("is ended before it fills the disk of the host", async () => {
    const state = join(host.root, "small");
    await mkdir(state);
    await exec.run("mount", ["-t", "tmpfs", "-o", "size=1300m,mode=755", "mvm-test", state], {
      timeoutMs: 10_000,
    });
    try {
      await host.addState(state, join(host.stateDir));
      const flake = await host.derivation(
        "large",
        "$b mkdir $out; $b dd if=/dev/zero of=$out/zeros bs=1M count=3000",
      );
      await assert.rejects(host.build(flake, { stateDir: state }), /no space left/);
      await host.assertNothingLeft(1, state);
      await writeFile(join(state, "ballast"), Buffer.alloc(500 * 1024 ** 2));
      const startedMs = performance.now();
      await assert.rejects(host.build(flake, { stateDir: state }), /no space left: .* MiB free/);
      assert.ok(performance.now() - startedMs < 5000, "it is refused before anything is started");
    } finally {
      await exec.run("umount", [state], { timeoutMs: 10_000 });
    }
  });

  it("does not bring what lies around it", async () => {
    const flake = await host.derivation("links", "$b mkdir $out");
    const folder = flake.slice("path:".length);
    for (const target of ["/etc/passwd", "../../secret", "sub/../../x"]) {
      await rm(join(folder, "link"), { force: true });
      await symlink(target, join(folder, "link"));
      await fails(flake, "usage", /link is a link out of the flake, to /);
    }
    await rm(join(folder, "link"));
    await symlink("/etc/hosts", join(folder, "mvm-profiles.toml"));
    await fails(flake, "usage", /mvm-profiles.toml is not a plain file/);
    await rm(join(folder, "mvm-profiles.toml"));
    await exec.run("mkfifo", [join(folder, "pipe")], { timeoutMs: 5000 });
    await fails(flake, "usage", /pipe is neither a file, a folder nor a symbolic link/);
  });

  it("is refused before a builder is started when its mvm-profiles.toml is wrong", async () => {
    const wrong: readonly [string, RegExp][] = [
      ['[services.a]\ncommand = "app"\nprot = 1', /prot/],
      ["[services.a]\ncommand = 7", /command/],
      ["payloads = [", /line 1/],
    ];
    for (const [toml, message] of wrong) {
      const flake = await host.derivation("profiles", "$b mkdir $out", {
        files: { "mvm-profiles.toml": toml },
      });
      const startedMs = performance.now();
      await fails(flake, "usage", message);
      assert.ok(performance.now() - startedMs < 2000);
    }
  });

  it("cannot reach a network, nor the drives of its builder", async () => {
    const flake = await host.derivation(
      "prying",
      [
        "$b mkdir -p $out/bin",
        "$b touch $out/bin/app",
        "$b chmod 755 $out/bin/app",
        "{ $b ip link; $b ls /dev /mvm; $b wget -O - http://10.240.1.1/; } >$out/seen 2>&1 || true",
      ].join("; "),
    );
    const revision = await host.build(flake);
    const { stdout: list } = await exec.run(
      "debugfs",
      ["-R", "ls -p /nix/store", host.imageFile(revision, "rootfs.ext4")],
      { timeoutMs: 10_000 },
    );
    const name = /[0-9a-z]{32}-prying/.exec(list)?.[0] ?? "";
    const { stdout: seen } = await exec.run(
      "debugfs",
      ["-R", `cat /nix/store/${name}/seen`, host.imageFile(revision, "rootfs.ext4")],
      { timeoutMs: 10_000 },
    );
    assert.doesNotMatch(seen, /\bvd[a-d]\b/);
    assert.doesNotMatch(seen, /\beth\d/);
    assert.match(seen, /\blo\b/);
    assert.match(seen, /can't connect|unreachable/);
    await rm(join(host.stateDir, "images"), { recursive: true });
  });
});
