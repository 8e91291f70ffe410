import assert from "node:assert/strict";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { PoolInfo } from "../../src/node/views.ts";
import { NodeUnderTest } from "./node-under-test.ts";

/** A flake with one package, made by a script; `$b` is busybox and `$guest` mvm's own guest. */
function flakeText(attribute: string, script: string): string {
  return `{
    inputs.tools = { url = "path:/mvm/tools"; flake = false; };
    inputs.guest = { url = "path:/mvm/guest"; flake = false; };
    outputs = { self, tools, guest }: {
      packages.x86_64-linux.${attribute} = derivation {
        name = "image";
        system = "x86_64-linux";
        builder = "\${tools}/busybox";
        inherit guest;
        args = [ "sh" "-euc" ''b=\${tools}/busybox; ${script}'' ];
      };
    };
  }`;
}

const idle = JSON.stringify({
  name: "idle",
  command: ["/bin/busybox", "sleep", "1000000"],
  user: "worker",
  env: {},
  port: null,
  health: null,
  needs: [],
});

describe("a pool whose flake makes the whole image", () => {
  let node: NodeUnderTest;
  let flake: string;
  let instance: string;

  const seen = async (): Promise<string> =>
    (
      await node.exec(instance, "sh", "-c", "cat /etc/own 2>/dev/null || echo laid over the base")
    ).stdout.trim();

  before(async () => {
    node = await NodeUnderTest.make("images");
    flake = join(node.roots.folder, "flake");
    await mkdir(flake);
    await writeFile(join(flake, "mvm-profiles.toml"), 'payloads = ["guest"]\n');
    await writeFile(
      join(flake, "flake.nix"),
      flakeText(
        "tenant-worker-minimal",
        [
          "$b mkdir -p $out/rootfs; $b cp $guest/kernel $guest/initrd $out",
          "$b tar -xf $guest/rootfs.tar -C $out/rootfs",
          "echo made by the flake >$out/rootfs/etc/own",
          `echo '${idle}' >$out/rootfs/etc/mvm/services/idle.json`,
        ].join("; "),
      ),
    );
    await node.mvm("tenant", "create", "acme");
    await node.mvm("pool", "create", "acme/web", "--flake", `path:${flake}`, "--mem", "256");
    await node.mvm("pool", "scale", "acme/web", "--running", "1");
    [{ address: instance } = { address: "" }] = await node.instances("acme");
  });
  after(() => node[Symbol.asyncDispose]());

  it("boots from it", async () => {
    assert.equal(await seen(), "made by the flake");
  });

  it("takes another image when it is built, and the earlier one again when it is rolled back, each at the next start", async () => {
    await writeFile(
      join(flake, "flake.nix"),
      flakeText(
        "default",
        "$b mkdir -p $out/bin; $b printf '#!/bin/sh\\nexec sleep 1000000\\n' >$out/bin/idle; $b chmod 755 $out/bin/idle",
      ),
    );
    await node.mvm("pool", "build", "acme/web", "--timeout", "600");
    assert.equal(await seen(), "made by the flake", "it runs on");
    const restart = async (): Promise<void> => {
      await node.mvm("instance", "stop", instance);
      await node.mvm("instance", "start", instance);
    };
    await restart();
    assert.equal(await seen(), "laid over the base");

    const { images } = (await node.json("pool", "info", "acme/web")) as PoolInfo;
    assert.deepEqual(
      images.map((image) => [image.package, image.current, image.instances]),
      [
        ["default", true, 1],
        ["tenant-worker-minimal", false, 0],
      ],
    );
    const earlier = images[1]?.hash ?? "";
    await node.mvm("pool", "rollback", "acme/web", "--revision", earlier.slice(0, 8));
    assert.equal(await seen(), "laid over the base", "it runs on");
    await restart();
    assert.equal(await seen(), "made by the flake");
    assert.match(
      await node.mvm("pool", "info", "acme/web"),
      new RegExp(`${earlier}  .*current, used by 1`),
    );
  });

  it("goes with its tenant, images and all", async () => {
    await node.mvm("tenant", "destroy", "acme", "--force", "--wipe-volumes", "--yes");
    const images = await readdir(join(node.roots.stateDir, "images"));
    assert.deepEqual(
      images.filter((name) => name !== "by-key"),
      [],
    );
    assert.match(await node.mvm("doctor", "--leaks"), /0 leaks/);
  });
});
