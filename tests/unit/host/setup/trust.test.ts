import assert from "node:assert/strict";
import { readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import {
  ConflictError,
  HostLacksError,
  NotTrustedError,
  OperationError,
  UsageError,
} from "../../../../src/domain/errors.ts";
import { parseSigningKey } from "../../../../src/domain/signing-key.ts";
import { isKeyOf, issueNodeCertificate, makeDevelopmentCa } from "../../../../src/host/pki.ts";
import {
  checkAuthority,
  ensureIdentity,
  identityPaths,
  readAuthority,
} from "../../../../src/host/setup/identity.ts";
import {
  isProduction,
  plainSwap,
  recordProduction,
  requireProduction,
} from "../../../../src/host/setup/production.ts";
import { listTrustedKeys, trustKey } from "../../../../src/host/setup/trusted-keys.ts";
import { TemporaryRoots } from "../../../builders/temporary-roots.ts";
import { mkdir } from "node:fs/promises";

const nowMs = Date.parse("2026-01-01T00:00:00.000Z");
const year = 365 * 86_400_000;

async function roots(): Promise<TemporaryRoots> {
  const made = await TemporaryRoots.make();
  await mkdir(made.stateDir, { recursive: true });
  return made;
}

test("without a CA the node has a development CA and a certificate of it, made once", async () => {
  await using made = await roots();
  const first = await ensureIdentity(made.stateDir, nowMs);
  assert.match(first.join(), /node id .*development CA,node certificate/);
  const paths = identityPaths(made.stateDir);
  const before = await readFile(paths.certificate, "utf8");
  assert.deepEqual(await ensureIdentity(made.stateDir, nowMs), []);
  assert.equal(await readFile(paths.certificate, "utf8"), before);
  assert.equal(await readAuthority(made.stateDir), "development");
  assert.equal((await stat(paths.key)).mode & 0o7777, 0o600);
});

test("with a CA elsewhere the node has a key and a request for it, and no certificate of its own making", async () => {
  await using made = await roots();
  const ca = await makeDevelopmentCa("coordinator", nowMs);
  await checkAuthority(made.stateDir, ca.certificatePem, nowMs);
  await ensureIdentity(made.stateDir, nowMs, ca.certificatePem);
  const paths = identityPaths(made.stateDir);
  assert.deepEqual((await readdir(paths.folder)).toSorted(), ["ca.crt", "node.csr", "node.key"]);
  assert.match(await readFile(paths.request, "utf8"), /BEGIN CERTIFICATE REQUEST/);
  assert.equal((await stat(paths.key)).mode & 0o7777, 0o600);
  assert.equal(await readAuthority(made.stateDir), "external");
  // Again, with the CA and without: nothing changes.
  const before = await readFile(paths.key, "utf8");
  assert.deepEqual(await ensureIdentity(made.stateDir, nowMs, ca.certificatePem), []);
  assert.deepEqual(await ensureIdentity(made.stateDir, nowMs), []);
  assert.equal(await readFile(paths.key, "utf8"), before);
});

test("a run that died at any file goes on, and never takes the identity for another kind", async () => {
  const ca = await makeDevelopmentCa("coordinator", nowMs);
  for (const given of [ca.certificatePem, undefined]) {
    await using whole = await roots();
    await ensureIdentity(whole.stateDir, nowMs, given);
    for (const name of await readdir(identityPaths(whole.stateDir).folder)) {
      // What was made after the CA's certificate may be missing; the CA's own tells the kind.
      if (name === "ca.crt" || name === "ca.key") continue;
      await rm(join(identityPaths(whole.stateDir).folder, name));
      await ensureIdentity(whole.stateDir, nowMs, given);
      const kind = given === undefined ? "development" : "external";
      assert.equal(await readAuthority(whole.stateDir), kind, name);
    }
    const paths = identityPaths(whole.stateDir);
    if (given === undefined) {
      const certificate = await readFile(paths.certificate, "utf8");
      assert.ok(isKeyOf(await readFile(paths.key, "utf8"), certificate));
    }
  }
});

test("a development CA that was half made is not taken for the key of a CA elsewhere", async () => {
  await using made = await roots();
  await ensureIdentity(made.stateDir, nowMs);
  const paths = identityPaths(made.stateDir);
  await rm(paths.caCertificate);
  const ca = await makeDevelopmentCa("coordinator", nowMs);
  await ensureIdentity(made.stateDir, nowMs, ca.certificatePem);
  assert.equal(await readAuthority(made.stateDir), "external");
});

test("a key that is of another certificate is made anew together with it", async () => {
  await using made = await roots();
  await ensureIdentity(made.stateDir, nowMs);
  const paths = identityPaths(made.stateDir);
  const other = await makeDevelopmentCa("other", nowMs);
  await writeFile(paths.key, other.keyPem);
  assert.deepEqual(await ensureIdentity(made.stateDir, nowMs), ["node certificate"]);
  const [key, certificate] = [
    await readFile(paths.key, "utf8"),
    await readFile(paths.certificate, "utf8"),
  ];
  assert.ok(isKeyOf(key, certificate));
});

test("an identity is never overwritten by that of another CA", async () => {
  await using made = await roots();
  await ensureIdentity(made.stateDir, nowMs);
  const before = await readFile(identityPaths(made.stateDir).caCertificate, "utf8");
  const { certificatePem } = await makeDevelopmentCa("coordinator", nowMs);
  await assert.rejects(checkAuthority(made.stateDir, certificatePem, nowMs), ConflictError);
  assert.equal(await readFile(identityPaths(made.stateDir).caCertificate, "utf8"), before);
  await checkAuthority(made.stateDir, before, nowMs);
});

test("what is no certificate, of no CA, or not valid now is not trusted", async () => {
  await using made = await roots();
  const ca = await makeDevelopmentCa("coordinator", nowMs);
  const node = await issueNodeCertificate("node", ca, nowMs);
  const check = (pem: string, atMs = nowMs): Promise<void> =>
    checkAuthority(made.stateDir, pem, atMs);
  await assert.rejects(check("no PEM"), NotTrustedError);
  await assert.rejects(check(ca.keyPem), NotTrustedError);
  await assert.rejects(check(node.certificatePem), /of no CA/);
  await assert.rejects(check(ca.certificatePem, nowMs + 11 * year), /it ended on/);
  await assert.rejects(check(ca.certificatePem, nowMs - year), /it begins on/);
  assert.deepEqual(await readdir(made.stateDir), []);
});

const key = Buffer.alloc(32, 5);

test("a signing key is added once, and another beside it", async () => {
  await using made = await roots();
  const first = await trustKey(made.configDir, key);
  const again = await trustKey(made.configDir, key);
  assert.deepEqual([first.added, again.added, again.path], [true, false, first.path]);
  await trustKey(made.configDir, Buffer.alloc(32, 6));
  assert.deepEqual(await listTrustedKeys(made.configDir), { keys: 2, broken: [] });
  const names = await readdir(join(made.configDir, "trusted_keys"));
  assert.ok(names.every((name) => /^[0-9a-f]{16}\.pub$/.test(name)));
  assert.equal(await readFile(first.path, "utf8"), `${key.toString("base64")}\n`);
  assert.equal((await stat(first.path)).mode & 0o7777, 0o644);
});

test("a file that holds no key is told", async () => {
  await using made = await roots();
  const { path } = await trustKey(made.configDir, key);
  await writeFile(path, "broken");
  assert.deepEqual(await listTrustedKeys(made.configDir), { keys: 0, broken: [path] });
});

for (const text of [
  "",
  "canary",
  key.subarray(1).toString("base64"),
  `${key.toString("base64")}AA`,
  key.toString("hex"),
  "-----BEGIN PUBLIC KEY-----",
]) {
  test(`${JSON.stringify(text.slice(0, 30))} is no signing key`, () => {
    assert.throws(() => parseSigningKey(text), NotTrustedError);
  });
}

test("a signing key may end with a newline", () => {
  assert.deepEqual(parseSigningKey(`${key.toString("base64")}\n`), key);
});

test("production needs a CA elsewhere, a signing key, and no plain swap", () => {
  const good = { hasAuthority: true, trustedKeys: 1, plainSwap: [] };
  requireProduction(good);
  assert.throws(() => requireProduction({ ...good, hasAuthority: false }), UsageError);
  assert.throws(() => requireProduction({ ...good, trustedKeys: 0 }), UsageError);
  assert.throws(() => requireProduction({ ...good, plainSwap: ["/swapfile"] }), HostLacksError);
});

test("swap is plain unless it is in memory or encrypted", async () => {
  await using made = await roots();
  const swaps = async (areas: string): Promise<string[]> => {
    await mkdir(join(made.folder, "proc"), { recursive: true });
    const heading = "Filename\tType\tSize\tUsed\tPriority\n";
    await writeFile(join(made.folder, "proc/swaps"), heading + areas);
    return plainSwap(made.folder);
  };
  assert.deepEqual(await swaps(""), []);
  assert.deepEqual(
    await swaps("/swapfile file 1 0 -2\n/dev/zram0 partition 1 0 5\n/dev/dm-1 partition 1 0 -3\n"),
    ["/swapfile"],
  );
});

test("a node is of production by its record, or by the environment", async () => {
  await using made = await roots();
  assert.equal(isProduction(made.configDir, {}), false);
  assert.equal(isProduction(made.configDir, { MVM_PRODUCTION: "1" }), true);
  await recordProduction(made.configDir);
  assert.equal(isProduction(made.configDir, {}), true);
  assert.equal(isProduction(made.configDir, { MVM_PRODUCTION: "0" }), true);
  await writeFile(join(made.configDir, "node.json"), "{");
  assert.throws(() => isProduction(made.configDir, {}), OperationError);
});
