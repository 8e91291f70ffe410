import assert from "node:assert/strict";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { ConflictError } from "../../../../src/domain/errors.ts";
import { parseTenantId } from "../../../../src/domain/ids.ts";
import { FileLocks } from "../../../../src/host/store/file-locks.ts";
import { TemporaryRoots } from "../../../builders/temporary-roots.ts";

const acme = parseTenantId("acme");
const waits = { tenantMs: 100, buildMs: 100, nodeMs: 100 };

test("two pieces of work on one tenant never overlap", async () => {
  await using roots = await TemporaryRoots.make();
  const locks = new FileLocks(roots);
  let atWork = 0;
  let done = 0;
  const work = async (): Promise<void> => {
    atWork += 1;
    assert.equal(atWork, 1);
    await new Promise((resolve) => setTimeout(resolve, 5));
    atWork -= 1;
    done += 1;
  };
  await Promise.all(Array.from({ length: 6 }, () => locks.withTenant(acme, "work", work)));
  assert.equal(done, 6);
});

test("who waits too long is told what the holder does", async () => {
  await using roots = await TemporaryRoots.make();
  const locks = new FileLocks(roots, { waits });
  const inside = locks.withTenant(acme, "scaling acme/web", async () => {
    await assert.rejects(
      locks.withTenant(acme, "more", () => Promise.resolve()),
      (error) => {
        assert.ok(error instanceof ConflictError);
        assert.match(error.message, /scaling acme\/web/);
        return true;
      },
    );
  });
  await inside;
});

test("tenants, builds and the node do not wait for each other", async () => {
  await using roots = await TemporaryRoots.make();
  const locks = new FileLocks(roots, { waits });
  const reached = await locks.withTenant(acme, "a", () =>
    locks.withTenant(parseTenantId("zenith"), "b", () =>
      locks.withBuild("key", "c", () => locks.withNode("d", () => Promise.resolve(true))),
    ),
  );
  assert.equal(reached, true);
});

test("a lock is free again when its work failed", async () => {
  await using roots = await TemporaryRoots.make();
  const locks = new FileLocks(roots, { waits });
  await assert.rejects(
    locks.withNode("fails", () => Promise.reject(new Error("boom"))),
    /boom/,
  );
  assert.equal(await locks.withNode("again", () => Promise.resolve(1)), 1);
});

test("lock files lie in the state folder, for root alone", async () => {
  await using roots = await TemporaryRoots.make();
  await new FileLocks(roots).withTenant(acme, "work", () => Promise.resolve());
  const folder = join(roots.stateDir, "locks");
  assert.deepEqual(await readdir(folder), ["tenant-acme.lock"]);
  assert.equal((await stat(folder)).mode & 0o7777, 0o700);
  assert.equal((await stat(join(folder, "tenant-acme.lock"))).mode & 0o7777, 0o600);
});
