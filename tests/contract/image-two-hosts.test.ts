import assert from "node:assert/strict";
import { chmod, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { preparePayloads } from "../../src/host/payloads/prepare.ts";
import { BuilderHost, exec, preparedDir, projectDir } from "./builder-host.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";
const names = ["kernel", "base", "builder"] as const;

describe("the same flake on two machines, each prepared by itself", { skip }, () => {
  let host: BuilderHost;
  let first: string;
  let second: string;
  before(async () => {
    host = await BuilderHost.make();
    first = join(host.root, "first");
    second = join(host.root, "second");
    await mkdir(first);
    const copy = ["-a", "--link", join(preparedDir, "payloads"), join(first, "payloads")];
    await exec.run("cp", copy, { timeoutMs: 60_000 });
    // As an operator with another umask would have prepared it.
    const umask = process.umask(0o077);
    try {
      await preparePayloads({
        stateDir: second,
        projectDir,
        exec,
        onProgress: () => undefined,
        names,
      });
    } finally {
      process.umask(umask);
    }
    // A payload as small as can be, in place of OpenClaw's; whatever copied the second one here made it a program.
    await addPayload(first, 0o644);
    await addPayload(second, 0o755);
  });
  after(() => host.remove());

  it("has the same key and gives the same image, also when it is made of what the host prepared", async () => {
    const flake = await host.derivation(
      "inputs",
      "$b mkdir -p $out/bin $out/lib; $b cp $openclaw/openclaw.tar $out/lib; $b cp $b $out/bin/app",
      { files: { "mvm-profiles.toml": 'payloads = ["openclaw"]' } },
    );
    assert.equal(await host.key(flake, second), await host.key(flake, first));
    const here = await host.build(flake, { stateDir: first });
    const there = await host.build(flake, { stateDir: second });
    assert.deepEqual(there.inputs, here.inputs);
    assert.deepEqual(
      here.inputs.map(({ url }) => url),
      ["path:/mvm/guest", "path:/mvm/openclaw", "path:/mvm/tools"],
    );
    assert.deepEqual(
      { hash: there.hash, kernel: there.kernel, initrd: there.initrd, rootfs: there.rootfs },
      { hash: here.hash, kernel: here.kernel, initrd: here.initrd, rootfs: here.rootfs },
    );
  });

  it("is not kept apart by the bits of the builder's own disk, which differ", async () => {
    const disks = await Promise.all([first, second].map((state) => builderDisk(state)));
    assert.notEqual(disks[0], disks[1]);
  });

  it("has the same key whatever the modes of the flake's files are, save the executable bit", async () => {
    const flake = await host.derivation("modes", "$b mkdir $out", { files: { script: "x" } });
    const script = join(flake.slice("path:".length), "script");
    const key = await host.key(flake);
    await chmod(script, 0o600);
    assert.equal(await host.key(flake), key);
    await chmod(script, 0o744);
    assert.notEqual(await host.key(flake), key);
  });
});

interface Manifest {
  readonly payloads: Record<string, { readonly files: Readonly<Record<string, string>> }>;
}

async function readManifest(stateDir: string): Promise<Manifest> {
  const text = await readFile(join(stateDir, "payloads", "manifest.json"), "utf8");
  return JSON.parse(text) as Manifest;
}

async function builderDisk(stateDir: string): Promise<string | undefined> {
  return (await readManifest(stateDir)).payloads["builder"]?.files["root.ext4"];
}

async function addPayload(stateDir: string, mode: number): Promise<void> {
  const folder = join(stateDir, "payloads", "openclaw");
  await mkdir(folder);
  await writeFile(join(folder, "openclaw.tar"), "payload\n");
  await chmod(join(folder, "openclaw.tar"), mode);
  const record = { version: "1", recipe: "1", packages: [], files: {} };
  const manifest = await readManifest(stateDir);
  // Another file, since the one that is there may be another folder's too.
  await rm(join(stateDir, "payloads", "manifest.json"));
  await writeFile(
    join(stateDir, "payloads", "manifest.json"),
    JSON.stringify({ ...manifest, payloads: { ...manifest.payloads, openclaw: record } }),
  );
}
