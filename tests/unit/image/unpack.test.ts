import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, readlink, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { MvmError } from "../../../src/domain/errors.ts";
import type { ByteSource, TarLimits } from "../../../src/image/tar-reader.ts";
import type { BuildAnswer } from "../../../src/image/build-answer.ts";
import { unpackSource } from "../../../src/image/unpack.ts";
import { tarBytes, type Member } from "./tar-bytes.ts";

const store = "nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello";
const limits: TarLimits = { maxContentBytes: 1_000_000, maxEntries: 100, maxNameBytes: 300 };
const narHash = `sha256-${"A".repeat(43)}=`;
const metadata = JSON.stringify({
  description: '"narHash":"sha256-no"',
  locked: { type: "path", path: "/mvm/flake", narHash },
  locks: {
    root: "root",
    nodes: {
      root: { inputs: { tools: "tools", lib: "lib" } },
      tools: { flake: false, locked: { type: "path", path: "/mvm/tools", narHash } },
      lib: { locked: { type: "github", owner: "o", repo: "r", rev: "f00", narHash } },
    },
  },
});
const answer: readonly Member[] = [
  { name: "mvm-result/", type: "5" },
  { name: "mvm-result/attribute", content: "package default\n" },
  { name: "mvm-result/out", content: `/${store}\n` },
  { name: "mvm-result/metadata.json", content: metadata },
];
const image: readonly Member[] = [
  { name: "mvm-result/", type: "5" },
  { name: "mvm-result/attribute", content: "complete tenant-minimal\n" },
  { name: "mvm-result/metadata.json", content: metadata },
  { name: "mvm-image/", type: "5" },
  { name: "mvm-image/kernel", content: "kernel" },
  { name: "mvm-image/initrd", content: "initrd" },
];
const imageTree: readonly Member[] = [
  { name: "mvm-image/rootfs/", type: "5" },
  { name: "mvm-image/rootfs/nix/", type: "5" },
  { name: "mvm-image/rootfs/nix/store/", type: "5" },
  { name: "mvm-image/rootfs/nix/store/x", content: "x" },
];
const packageFolder: readonly Member[] = [
  { name: `${store}/`, type: "5" },
  { name: `${store}/bin/`, type: "5" },
  { name: `${store}/bin/hello`, content: "#!/bin/sh\n", mode: 0o755 },
];
const end: Member = { name: "mvm-result-end" };

function sourceOf(bytes: Buffer): ByteSource {
  return {
    read: (position, length) =>
      Promise.resolve(Buffer.from(bytes.subarray(position, position + length))),
  };
}

describe("the output of a builder", () => {
  let parent: string;
  let root: string;
  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), "mvm-unpack-"));
    root = join(parent, "tree");
  });
  afterEach(() => rm(parent, { recursive: true }));

  const unpack = (members: readonly Member[], complete = true): Promise<BuildAnswer> =>
    unpackSource(sourceOf(tarBytes(members, complete)), { tree: root, image: parent }, limits);
  const withExtra = (...extra: readonly Member[]): Member[] => [
    ...answer,
    ...packageFolder,
    ...extra,
    end,
  ];

  it("is unpacked with its links and modes, and says what was built", async () => {
    const built = await unpack(withExtra({ name: `${store}/bin/hi`, type: "2", target: "hello" }));
    assert.deepEqual(built, {
      kind: "package",
      attribute: "default",
      narHash,
      inputs: [
        { name: "lib", url: "github:o/r/f00", nar_hash: narHash },
        { name: "tools", url: "path:/mvm/tools", nar_hash: narHash },
      ],
      storePath: `/${store}`,
      programs: ["hello", "hi"],
      modules: new Map(),
    });
    assert.equal(await readFile(join(root, store, "bin/hello"), "utf8"), "#!/bin/sh\n");
    assert.equal((await stat(join(root, store, "bin/hello"))).mode & 0o7777, 0o755);
    assert.equal(await readlink(join(root, store, "bin/hi")), "hello");
  });

  it("may have names longer than a header holds", async () => {
    const name = `${store}/${"n".repeat(150)}`;
    await unpack(
      withExtra({ name: "././@LongLink", type: "L", content: `${name}\0` }, { name: "x" }),
    );
    assert.equal((await stat(join(root, name))).size, 0);
  });

  it("loses setuid and setgid bits", async () => {
    await unpack(withExtra({ name: `${store}/bin/su`, mode: 0o6755 }));
    assert.equal((await stat(join(root, store, "bin/su"))).mode & 0o7777, 0o755);
  });

  it("names the packages of its modules", async () => {
    const built = await unpack(
      withExtra({ name: "mvm-result/modules", content: `metrics /${store}\n` }),
    );
    assert.ok(built.kind === "package");
    assert.deepEqual(
      built.modules,
      new Map([["metrics", { storePath: `/${store}`, programs: ["hello"] }]]),
    );
  });

  it("may be a complete image with a root file system, or with a tree for one", async () => {
    const asImage = await unpack([...image, { name: "mvm-image/rootfs.ext4", content: "fs" }, end]);
    assert.equal(asImage.kind === "complete" && asImage.rootfs, "image");
    assert.equal(await readFile(join(parent, "rootfs.ext4"), "utf8"), "fs");
    for (const name of ["kernel", "initrd"]) {
      assert.equal(await readFile(join(parent, name), "utf8"), name);
      await rm(join(parent, name));
    }
    await rm(root, { recursive: true });
    const asTree = await unpack([...image, ...imageTree, end]);
    assert.equal(asTree.kind === "complete" && asTree.rootfs, "tree");
    assert.equal(await readFile(join(root, "nix/store/x"), "utf8"), "x");
  });

  const brokenImages: readonly [string, readonly Member[], RegExp][] = [
    ["no root file system", [], /no rootfs.ext4 or rootfs/],
    ["two", [{ name: "mvm-image/rootfs.ext4" }, ...imageTree], /both/],
    [
      "a link for a file",
      [{ name: "mvm-image/rootfs.ext4", type: "2", target: "kernel" }],
      /no file/,
    ],
    ["a file nobody knows", [{ name: "mvm-image/firmware" }], /no part of an image/],
    ["a name that climbs", [...imageTree, { name: "mvm-image/rootfs/../../x" }], /not allowed/],
    [
      "a link that climbs",
      [...imageTree, { name: "mvm-image/rootfs/x", type: "2", target: "../../../../x" }],
      /leads out/,
    ],
    ["a device", [...imageTree, { name: "mvm-image/rootfs/null", type: "3" }], /neither a file/],
    [
      "a Nix store beside it",
      [...imageTree, ...packageFolder],
      /store beside it|there twice|before its folder/,
    ],
  ];
  for (const [what, extra, message] of brokenImages) {
    it(`is refused as a complete image with ${what}`, async () => {
      await assert.rejects(unpack([...image, ...extra, end]), message);
    });
  }

  it("is refused as a complete image without kernel and initrd", async () => {
    const files = [...image.slice(0, 4), { name: "mvm-image/rootfs.ext4", content: "fs" }, end];
    await assert.rejects(unpack(files), /no kernel, no initrd/);
  });

  it("says that a file of a hundred gigabytes is too large", async () => {
    // GNU tar writes sizes from 8 GiB on in binary.
    await assert.rejects(
      unpack(withExtra({ name: `${store}/x`, binarySize: 100 * 1024 ** 3 })),
      /more than 1000000 bytes of content/,
    );
  });

  it("says that a file of gigabytes is too large before it is read", async () => {
    await assert.rejects(
      unpack(withExtra({ name: `${store}/x`, sizeBytes: 4 * 1024 ** 3 })),
      /more than 1000000 bytes of content/,
    );
  });

  it("says that files are too large together, whatever each is", async () => {
    const content = "x".repeat(600_000);
    const files = ["x", "y"].map((name) => ({ name: `${store}/${name}`, content }));
    await assert.rejects(
      unpack([...answer, ...packageFolder, ...files, end]),
      /more than 1000000 bytes of content/,
    );
  });

  const noMetadata: readonly [string, string][] = [
    ["no JSON", "{"],
    ["no hash", '{"locked":{"type":"path"},"locks":{"root":"root","nodes":{}}}'],
    ["a hash of another form", metadata.replace(narHash, "sha256-x")],
  ];
  for (const [what, content] of noMetadata) {
    it(`is refused when it says of its flake ${what}`, async () => {
      const members = answer.map((member) =>
        member.name === "mvm-result/metadata.json" ? { ...member, content } : member,
      );
      await assert.rejects(unpack([...members, ...packageFolder, end]), /of the flake|locked to/);
    });
  }

  const hostile: readonly [string, readonly Member[]][] = [
    ["an absolute name", [{ name: `/${store}/x` }]],
    ["a name that climbs", [{ name: `${store}/../../../etc/passwd` }]],
    ["a name with an empty part", [{ name: `${store}//x` }]],
    ["a name with a control character", [{ name: `${store}/a\nb` }]],
    ["a name outside the store", [{ name: "etc/passwd", content: "root::0:0" }]],
    ["a name that is no store path", [{ name: "nix/store/short/x" }]],
    ["a hard link", [{ name: `${store}/x`, type: "1", target: `${store}/bin/hello` }]],
    ["a character device", [{ name: `${store}/x`, type: "3" }]],
    ["a block device", [{ name: `${store}/x`, type: "4" }]],
    ["a pipe", [{ name: `${store}/x`, type: "6" }]],
    ["an extended header", [{ name: "pax", type: "x", content: "11 path=x\n" }]],
    ["a link that climbs out", [{ name: `${store}/x`, type: "2", target: "../../../../etc" }]],
    ["an absolute link that climbs", [{ name: `${store}/x`, type: "2", target: "/nix/../.." }]],
    ["a link without a target", [{ name: `${store}/x`, type: "2", target: "" }]],
    [
      "a file below a link",
      [
        { name: `${store}/up`, type: "2", target: "../../../nix" },
        { name: `${store}/up/x`, content: "x" },
      ],
    ],
    ["the same name twice", [{ name: `${store}/bin/hello`, content: "other" }]],
    [
      "a file in the place of a link",
      [
        { name: `${store}/x`, type: "2", target: "/etc/passwd" },
        { name: `${store}/x`, content: "other" },
      ],
    ],
    ["a size beyond the limit", [{ name: `${store}/x`, sizeBytes: 8_000_000_000 }]],
    ["a size that is cut short", [{ name: `${store}/x`, sizeBytes: 900_000 }]],
    [
      "more entries than allowed",
      Array.from({ length: 101 }, (_, index) => ({ name: `${store}/${index}` })),
    ],
    ["a long name beyond the limit", [{ name: "L", type: "L", content: "n".repeat(400) }]],
    ["an answer nobody asked for", [{ name: "mvm-result/more", content: "x" }]],
    ["an answer given twice", [{ name: "mvm-result/attribute", content: "default\n" }]],
    ["a large answer", [{ name: "mvm-result/attribute", content: "x".repeat(999_000), type: "7" }]],
  ];
  for (const [what, extra] of hostile) {
    it(`is refused with ${what}`, async () => {
      await assert.rejects(unpack(withExtra(...extra)), MvmError);
      assert.deepEqual(await readdir(parent), ["tree"]);
    });
  }

  it("is refused when its builder stopped before the end", async () => {
    await assert.rejects(unpack([...answer, ...packageFolder]), /was not finished/);
    await rm(root, { recursive: true });
    await assert.rejects(unpack([...answer, ...packageFolder, end], false), /ends in the middle/);
  });

  it("is refused when it names a package it does not hold", async () => {
    await assert.rejects(unpack([...answer, end]), /is no folder of it/);
  });

  it("never brings down its reader nor leaves its folder, whatever bytes are changed", async () => {
    const whole = tarBytes(withExtra({ name: `${store}/l`, type: "2", target: "bin" }));
    const seed = Number(process.env["MVM_TEST_SEED"] ?? "20260901");
    let state = seed;
    const random = (below: number): number => {
      // xorshift32
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) % below;
    };
    for (let round = 0; round < 400; round += 1) {
      const bytes = Buffer.from(whole);
      for (let change = 0; change <= random(3); change += 1) {
        const at = random(bytes.length);
        bytes[at] = random(256);
        repairChecksum(bytes, at);
      }
      const folder = join(parent, "fuzz");
      try {
        await unpackSource(sourceOf(bytes), { tree: folder, image: folder }, limits);
      } catch (error) {
        assert.ok(error instanceof MvmError, `seed ${seed}, round ${round}: ${String(error)}`);
      }
      assert.deepEqual(await readdir(parent), ["fuzz"], `seed ${seed}, round ${round}`);
      await rm(folder, { recursive: true });
    }
  });
});

/** Makes the change reach the code behind the checksum. */
function repairChecksum(bytes: Buffer, at: number): void {
  const start = at - (at % 512);
  const header = bytes.subarray(start, start + 512);
  if (header.toString("latin1", 257, 262) !== "ustar") return;
  header.fill(" ", 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
}
