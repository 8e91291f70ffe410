import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { HostLacksError, OperationError } from "../../../../src/domain/errors.ts";
import { FileDesiredStore } from "../../../../src/host/store/file-desired-store.ts";
import type { AcceptedDesired } from "../../../../src/ports/desired-store.ts";
import { guideDocument } from "../../../builders/documents.ts";
import { TemporaryRoots } from "../../../builders/temporary-roots.ts";

const hash = createHash("sha256").update(guideDocument).digest("hex");
const accepted: AcceptedDesired = {
  document: guideDocument,
  hash,
  accepted_at: "2026-01-01T00:00:00.000Z",
  signed: { generation: 3, hash },
  key_id: "00".repeat(8),
};

test("the document in force is kept byte for byte, readable by its owner alone", async () => {
  await using roots = await TemporaryRoots.make();
  const store = new FileDesiredStore(roots);
  assert.equal(await store.load(), undefined);
  await store.save(accepted);
  assert.deepEqual(await new FileDesiredStore(roots).load(), accepted);
  const { mode } = await stat(join(roots.stateDir, "agent", "desired.json"));
  assert.equal(mode & 0o777, 0o600);
});

test("one that was changed or cut off is not taken for none: an old document could slip in", async () => {
  await using roots = await TemporaryRoots.make();
  const store = new FileDesiredStore(roots);
  await store.save(accepted);
  const path = join(roots.stateDir, "agent", "desired.json");
  const text = await readFile(path, "utf8");
  const other = guideDocument.toString("base64").replace("A", "B");
  for (const changed of [
    text.slice(0, -20),
    "{}",
    text.replace(guideDocument.toString("base64"), other),
  ]) {
    await writeFile(path, changed);
    await assert.rejects(store.load(), OperationError);
  }
});

test("a machine that is no node yet says so", async () => {
  await using roots = await TemporaryRoots.make();
  await assert.rejects(new FileDesiredStore(roots).nodeId(), HostLacksError);
});

test("keys that are none are left out", async () => {
  await using roots = await TemporaryRoots.make();
  const folder = join(roots.configDir, "trusted_keys");
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "a.pub"), `${Buffer.alloc(32, 1).toString("base64")}\n`);
  await writeFile(join(folder, "b.pub"), "no key\n");
  const keys = await new FileDesiredStore(roots).trustedKeys();
  assert.deepEqual(
    keys.map((key) => Buffer.from(key)),
    [Buffer.alloc(32, 1)],
  );
});
