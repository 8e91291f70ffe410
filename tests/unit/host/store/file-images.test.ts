import assert from "node:assert/strict";
import {
  mkdir,
  readFile,
  readdir,
  readlink,
  realpath,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { NotFoundError } from "../../../../src/domain/errors.ts";
import { parsePoolAddress } from "../../../../src/domain/ids.ts";
import { FileImages } from "../../../../src/host/store/file-images.ts";
import { aRevision } from "../../../builders/records.ts";
import { TemporaryRoots } from "../../../builders/temporary-roots.ts";

const [first, second, third] = ["1", "2", "3"].map((digit) => digit.repeat(64)) as [
  string,
  string,
  string,
];
const pool = parsePoolAddress("acme/web");

async function imagesWith(roots: TemporaryRoots, ...hashes: string[]): Promise<FileImages> {
  for (const hash of hashes) {
    const folder = join(roots.stateDir, "images", hash);
    await mkdir(folder, { recursive: true });
    for (const name of ["kernel", "initrd", "rootfs.ext4"]) {
      await writeFile(join(folder, name), `${name} of ${hash}`);
    }
    await writeFile(join(folder, "revision.json"), JSON.stringify(aRevision(hash)));
  }
  return new FileImages(roots);
}

function artifacts(roots: TemporaryRoots, ...parts: string[]): string {
  return join(roots.stateDir, "tenants/acme/pools/web/artifacts", ...parts);
}

test("the files of an image are found by its hash", async () => {
  await using roots = await TemporaryRoots.make();
  const images = await imagesWith(roots, first);
  const { kernel, initrd, rootfs } = await images.files(first);
  assert.deepEqual(
    await Promise.all([kernel, initrd, rootfs].map((path) => readFile(path, "utf8"))),
    [`kernel of ${first}`, `initrd of ${first}`, `rootfs.ext4 of ${first}`],
  );
});

test("an image that lacks a file is not there, and how to get it is said", async () => {
  await using roots = await TemporaryRoots.make();
  const images = await imagesWith(roots, first);
  await rm(join(roots.stateDir, "images", first, "rootfs.ext4"));
  for (const hash of [first, second]) {
    await assert.rejects(images.files(hash), (error) => {
      assert.ok(error instanceof NotFoundError);
      assert.match(error.hint ?? "", /mvm pool build/);
      return true;
    });
  }
});

test("a pool's links name its revisions, and current is the newest", async () => {
  await using roots = await TemporaryRoots.make();
  const images = await imagesWith(roots, first, second);
  await images.link(pool, [second, first]);
  assert.deepEqual((await readdir(artifacts(roots, "revisions"))).toSorted(), [first, second]);
  assert.equal(
    await realpath(artifacts(roots, "current")),
    await realpath(join(roots.stateDir, "images", second)),
  );
  assert.equal(
    await readFile(artifacts(roots, "revisions", first, "kernel"), "utf8"),
    `kernel of ${first}`,
  );
});

test("a new revision switches current and drops the link of the one that is no longer kept", async () => {
  await using roots = await TemporaryRoots.make();
  const images = await imagesWith(roots, first, second, third);
  await images.link(pool, [second, first]);
  await images.link(pool, [third, second]);
  assert.deepEqual((await readdir(artifacts(roots, "revisions"))).toSorted(), [second, third]);
  assert.equal(await readlink(artifacts(roots, "current")), join("revisions", third));
  assert.deepEqual((await readdir(artifacts(roots))).toSorted(), ["current", "revisions"]);
});

test("a switch that was cut off before is done again", async () => {
  await using roots = await TemporaryRoots.make();
  const images = await imagesWith(roots, first);
  await mkdir(artifacts(roots), { recursive: true });
  await writeFile(artifacts(roots, "current.tmp"), "left by one that died");
  await images.link(pool, [first]);
  assert.deepEqual((await readdir(artifacts(roots))).toSorted(), ["current", "revisions"]);
});

test("links lead to the images wherever the state folder is moved", async () => {
  await using roots = await TemporaryRoots.make();
  const images = await imagesWith(roots, first);
  await images.link(pool, [first]);
  assert.ok(!(await readlink(artifacts(roots, "revisions", first))).startsWith("/"));
  assert.ok(!(await readlink(artifacts(roots, "current"))).startsWith("/"));
});

test("images that are not kept are removed, and what is no image is left", async () => {
  await using roots = await TemporaryRoots.make();
  const images = await imagesWith(roots, first, second, third);
  await mkdir(join(roots.stateDir, "images", "by-key"));
  assert.deepEqual((await images.collect(new Set([second]))).toSorted(), [first, third]);
  assert.deepEqual((await readdir(join(roots.stateDir, "images"))).toSorted(), [second, "by-key"]);
  assert.deepEqual(await images.collect(new Set([second])), []);
});

test("the names of builds go with their images", async () => {
  await using roots = await TemporaryRoots.make();
  const images = await imagesWith(roots, first, second);
  const keys = join(roots.stateDir, "images", "by-key");
  await mkdir(keys);
  const [kept, gone] = ["a".repeat(64), "b".repeat(64)];
  await symlink(`../${first}`, join(keys, kept));
  await symlink(`../${second}`, join(keys, gone));
  // Another build is at work on its own.
  await symlink(`../${third}`, join(keys, `.${gone}.tmp`));
  await images.collect(new Set([first]));
  assert.deepEqual((await readdir(keys)).toSorted(), [`.${gone}.tmp`, kept]);
});
