import assert from "node:assert/strict";
import { mkdir, mkdtemp, open, readdir, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { parseTenantId } from "../../../src/domain/ids.ts";
import { HostExec } from "../../../src/host/exec.ts";
import { type StoreDisk, StoreDisks } from "../../../src/image/store-disk.ts";

const acme = parseTenantId("acme");
const other = parseTenantId("other");
const sizeBytes = 8 * 1024 ** 2;
/** Free space of ext4, which no test here uses. */
const markAt = 6 * 1024 ** 2;

describe("a Nix store that is kept between builds", () => {
  let root: string;
  let builds = 0;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "mvm-store-"));
  });
  afterEach(() => rm(root, { recursive: true }));

  const disks = (maxAllocatedBytes = 4 * 1024 ** 2): StoreDisks =>
    new StoreDisks({ stateDir: root, exec: new HostExec(), sizeBytes, maxAllocatedBytes });
  const take = async (tenant = acme, from = disks()): Promise<StoreDisk> => {
    builds += 1;
    const folder = join(root, `build-${builds}`);
    await mkdir(folder);
    return from.take(tenant, folder);
  };
  const mark = async (disk: StoreDisk, text: string): Promise<void> => {
    const file = await open(disk.path, "r+");
    await file.write(text, markAt);
    await file.close();
  };
  const markOf = async (disk: StoreDisk): Promise<string> => {
    const file = await open(disk.path, "r");
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, markAt);
    await file.close();
    return buffer.toString("latin1").replaceAll("\0", "");
  };
  const kept = (): Promise<string[]> => readdir(join(root, "nix-stores")).catch(() => []);

  it("is the same one in the tenant's next build", async () => {
    const first = await take();
    await mark(first, "mine");
    await first.keep();
    assert.equal(await markOf(await take()), "mine");
  });

  it("is never another tenant's", async () => {
    const first = await take();
    await mark(first, "mine");
    await first.keep();
    assert.equal(await markOf(await take(other)), "");
  });

  it("is in one build at a time: a second one begins with an empty one", async () => {
    const first = await take();
    await mark(first, "mine");
    await first.keep();
    const [one, two] = await Promise.all([take(), take()]);
    assert.deepEqual([await markOf(one), await markOf(two)].toSorted(), ["", "mine"]);
    assert.notEqual(one.path, two.path);
  });

  it("is gone when its build died, since it lay in the build's folder", async () => {
    await (await take()).keep();
    const died = await take();
    assert.deepEqual(await kept(), []);
    await rm(died.path);
    assert.equal(await markOf(await take()), "");
  });

  it("is not kept when its guest did not let go of it", async () => {
    const disk = await take();
    const file = await open(disk.path, "r+");
    // s_state: mounted.
    await file.write(Buffer.from([0, 0]), 0, 2, 1024 + 0x3a);
    await file.close();
    await disk.keep();
    assert.deepEqual(await kept(), []);
  });

  it("is not kept when it grew beyond its bound", async () => {
    const disk = await take(acme, disks(1024 ** 2));
    await mark(disk, "x".repeat(1.5 * 1024 ** 2));
    await disk.keep();
    assert.deepEqual(await kept(), []);
  });

  it("is replaced by an empty one when it is damaged", async () => {
    for (const damage of [
      (path: string) => writeFile(path, "garbage"),
      (path: string) => truncate(path, 1024 ** 2),
    ]) {
      const disk = await take();
      await mark(disk, "mine");
      await disk.keep();
      await damage(join(root, "nix-stores", "acme.img"));
      const next = await take();
      assert.equal(await markOf(next), "");
      assert.equal((await stat(next.path)).size, sizeBytes);
    }
  });

  it("goes with its tenant, and with the ninth that is kept", async () => {
    for (const tenant of [acme, other]) await (await take(tenant)).keep();
    await disks().retain(new Set([other]));
    assert.deepEqual(await kept(), ["other.img"]);
    for (let count = 1; count <= 9; count += 1) {
      await (await take(parseTenantId(`t${count}`))).keep();
    }
    const names = await kept();
    assert.equal(names.length, 8);
    assert.ok(!names.includes("other.img"));
  });
});
