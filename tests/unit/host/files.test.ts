import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { isErrno, listFolderIfAny, removeFolderIfEmpty } from "../../../src/host/files.ts";
import { TemporaryRoots } from "../../builders/temporary-roots.ts";

test("a folder is listed by name, and one that is not there is empty", async () => {
  await using roots = await TemporaryRoots.make();
  assert.deepEqual(await listFolderIfAny(roots.stateDir), []);
  await mkdir(roots.stateDir);
  for (const name of ["b", "a"]) await writeFile(join(roots.stateDir, name), "");
  assert.deepEqual(await listFolderIfAny(roots.stateDir), ["a", "b"]);
  const isNoFolder = (error: unknown): boolean => isErrno(error, "ENOTDIR");
  await assert.rejects(listFolderIfAny(join(roots.stateDir, "a")), isNoFolder);
});

test("only an empty folder is removed, and that twice", async () => {
  await using roots = await TemporaryRoots.make();
  await mkdir(join(roots.stateDir, "full"), { recursive: true });
  await removeFolderIfEmpty(roots.stateDir);
  assert.deepEqual(await listFolderIfAny(roots.stateDir), ["full"]);
  for (let time = 0; time < 2; time += 1) await removeFolderIfEmpty(join(roots.stateDir, "full"));
  assert.deepEqual(await listFolderIfAny(roots.stateDir), []);
});
