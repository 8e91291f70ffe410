import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { HostLacksError, UsageError } from "../../../src/domain/errors.ts";
import { parseTenantId } from "../../../src/domain/ids.ts";
import { buildKey } from "../../../src/image/build-key.ts";
import type { ImagePlaces } from "../../../src/image/guest-image.ts";

const worker = { profile: "minimal", role: "worker" } as const;

interface Payload {
  readonly version: string;
  readonly recipe: string;
  readonly packages: readonly object[];
  readonly files: Readonly<Record<string, string>>;
}

function payload(sha256: string, files: Readonly<Record<string, string>> = {}): Payload {
  const packages = [{ name: "package", version: "1.0", sha256 }];
  return { version: "1", recipe: "1", packages, files };
}

describe("the key of a build", () => {
  let root: string;
  let places: ImagePlaces;
  let flake: string;
  const payloads = {
    kernel: payload("k"),
    base: payload("b"),
    builder: payload("n", { "root.ext4": "made at one time" }),
    openclaw: payload("o"),
  };

  const write = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  };
  const prepare = (changed: Readonly<Record<string, Payload | undefined>> = {}): Promise<void> =>
    write(
      join(places.payloads, "manifest.json"),
      JSON.stringify({ schema_version: 1, payloads: { ...payloads, ...changed } }),
    );

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "mvm-key-"));
    places = { payloads: join(root, "payloads"), project: join(root, "project") };
    flake = join(root, "flake");
    await write(join(flake, "flake.nix"), "{ }");
    for (const name of [
      "dist/guest/agent.mjs",
      "dist/guest/gateway.mjs",
      "nix/guest/init",
      "nix/builder/build",
    ]) {
      await write(join(places.project, name), name);
    }
    await prepare();
  });
  afterEach(() => rm(root, { recursive: true }));

  it("is the same wherever the flake lies, and without its history", async () => {
    const other = join(root, "elsewhere", "flake");
    await write(join(other, "flake.nix"), "{ }");
    await write(join(other, ".git", "HEAD"), "ref");
    assert.equal(await buildKey(places, other, worker), await buildKey(places, flake, worker));
  });

  it("changes with the flake, the profile, the role, and mvm's own parts of a guest", async () => {
    const seen = new Set([await buildKey(places, flake, worker)]);
    seen.add(await buildKey(places, flake, { ...worker, profile: "other" }));
    seen.add(await buildKey(places, flake, { ...worker, role: "gateway" }));
    for (const path of [
      join(flake, "more"),
      join(places.project, "nix/guest/init"),
      join(places.project, "nix/builder/build"),
      join(places.project, "dist/guest/agent.mjs"),
    ]) {
      await write(path, "changed");
      seen.add(await buildKey(places, flake, worker));
    }
    assert.equal(seen.size, 7);
  });

  it("changes with the packages that payloads are made of, and not with the bits of the builder's disk", async () => {
    const key = await buildKey(places, flake, worker);
    await prepare({ builder: payload("n", { "root.ext4": "made at another time" }) });
    assert.equal(await buildKey(places, flake, worker), key);
    for (const name of ["kernel", "base", "builder"]) {
      await prepare({ [name]: payload("newer") });
      assert.notEqual(await buildKey(places, flake, worker), key, name);
    }
  });

  it("hangs on a payload only when the flake asks for it", async () => {
    const key = await buildKey(places, flake, worker);
    await prepare({ openclaw: undefined });
    assert.equal(await buildKey(places, flake, worker), key);
    await write(join(flake, "mvm-profiles.toml"), 'payloads = ["openclaw"]');
    await assert.rejects(buildKey(places, flake, worker), /openclaw is not prepared on this host/);
  });

  it("is a tenant's own when its kept Nix store has a part in the image", async () => {
    const keys = await Promise.all([
      buildKey(places, flake, worker),
      buildKey(places, flake, worker, parseTenantId("acme")),
      buildKey(places, flake, worker, parseTenantId("other")),
    ]);
    assert.equal(new Set(keys).size, 3);
  });

  it("is refused before the host is prepared, and for a flake that cannot be used", async () => {
    await write(join(flake, "mvm-profiles.toml"), "surprise = 1");
    await assert.rejects(buildKey(places, flake, worker), UsageError);
    for (const manifest of ["", "{", "{}", "null"]) {
      await write(join(places.payloads, "manifest.json"), manifest);
      await assert.rejects(buildKey(places, flake, worker), HostLacksError, manifest);
    }
    await rm(places.payloads, { recursive: true });
    await assert.rejects(buildKey(places, flake, worker), HostLacksError);
  });
});
