import assert from "node:assert/strict";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { test } from "node:test";
import { describeError, OperationError } from "../../../../src/domain/errors.ts";
import { parseTenantId } from "../../../../src/domain/ids.ts";
import { FileSecretStore } from "../../../../src/host/store/file-secret-store.ts";
import { FileStore } from "../../../../src/host/store/file-store.ts";
import { aTenant, secondsAgo } from "../../../builders/records.ts";
import { TemporaryRoots } from "../../../builders/temporary-roots.ts";

const acme = parseTenantId("acme");
const canary = "canary-7f3a9b";
const stored = {
  values: { API_KEY: canary },
  generated: { TOKEN: "made" },
  values_changed_at: { API_KEY: secondsAgo(60) },
  generated_changed_at: { TOKEN: secondsAgo(0) },
  updated_at: secondsAgo(0),
  epoch: 3,
};

test("secrets are read back as they were saved, from a file of mode 0600", async () => {
  await using roots = await TemporaryRoots.make();
  await new FileStore(roots).saveTenant(aTenant());
  const secrets = new FileSecretStore(roots);
  await secrets.save(acme, stored);
  assert.deepEqual(await secrets.load(acme), stored);
  assert.equal((await stat(secrets.location(acme))).mode & 0o7777, 0o600);
});

test("a tenant that has none has no secrets", async () => {
  await using roots = await TemporaryRoots.make();
  assert.equal(await new FileSecretStore(roots).load(acme), undefined);
});

for (const [name, content] of [
  ["is cut off", `{"values":{"API_KEY":"${canary}`],
  ["is no JSON", canary],
  ["is of another shape", JSON.stringify({ values: { API_KEY: [canary] }, [canary]: 1 })],
  ["is a list", JSON.stringify([canary])],
] as const) {
  test(`a file of secrets that ${name} is refused without a word of its content`, async () => {
    await using roots = await TemporaryRoots.make();
    const secrets = new FileSecretStore(roots);
    const path = secrets.location(acme);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
    await assert.rejects(secrets.load(acme), (error) => {
      assert.ok(error instanceof OperationError);
      const said = `${describeError(error)} ${error.hint} ${error.stack} ${JSON.stringify(error)}`;
      assert.ok(!said.includes("canary"), said);
      assert.ok(error.message.includes(path));
      return true;
    });
    assert.equal(await readFile(path, "utf8"), content, "it is left as it was");
  });
}
