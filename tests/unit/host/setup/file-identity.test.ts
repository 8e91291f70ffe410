import assert from "node:assert/strict";
import { mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import {
  ConflictError,
  HostLacksError,
  NotFoundError,
  NotTrustedError,
} from "../../../../src/domain/errors.ts";
import { FileAuthority } from "../../../../src/host/fleet/file-authority.ts";
import type { Roots } from "../../../../src/host/roots.ts";
import { FileIdentity } from "../../../../src/host/setup/file-identity.ts";

const dayMs = 86_400_000;

suite("a node's identity of a fleet's CA", () => {
  let folder = "";
  let authority = new FileAuthority("");
  let caPem = "";
  let nowMs = Date.now();
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "mvm-identity-"));
    authority = new FileAuthority(join(folder, "coordinator"));
    nowMs = Date.now();
    caPem = await authority.init("fleet", nowMs);
  });
  afterEach(() => rm(folder, { recursive: true }));

  const rootsOf = (name: string): Roots => ({
    stateDir: join(folder, name),
    configDir: join(folder, name, "etc"),
    runDir: join(folder, name, "run"),
  });

  const certs = (name: string): string => join(folder, "node", "certs", name);

  async function aNode(): Promise<FileIdentity> {
    const node = new FileIdentity(rootsOf("node"), () => nowMs);
    await node.init(caPem);
    return node;
  }

  async function answer(request: string, days = 1): Promise<string> {
    const asked = { requestPem: request, role: "node" } as const;
    return (await authority.issue(asked, days * dayMs, nowMs)).certificatePem;
  }

  async function anEnrolledNode(): Promise<FileIdentity> {
    const node = await aNode();
    await node.install({ certificate: await answer(await node.request()) });
    return node;
  }

  test("is a key and a request first, and counts once the CA has answered", async () => {
    const node = await aNode();
    assert.equal((await node.status()).certificate, null);
    await assert.rejects(node.current(), /no certificate yet/);
    const installed = await node.install({ certificate: await answer(await node.request()) });
    const { certificate, authority: whose, requested } = await node.status();
    assert.equal(certificate?.serial, installed.serial);
    assert.equal(whose, "external");
    assert.equal(requested, false);
    assert.equal((await node.current()).caPem, caPem);
  });

  test("is renewed with a new key; the old one is in use until the answer is there", async () => {
    const node = await anEnrolledNode();
    const before = await node.current();
    const request = await node.request();
    assert.deepEqual(await node.current(), before);
    const next = await readFile(certs("next.key"), "utf8");
    await node.request();
    assert.equal(
      await readFile(certs("next.key"), "utf8"),
      next,
      "asked again, it is the same key",
    );
    await node.install({ certificate: await answer(request) });
    const after = await node.current();
    assert.equal(after.keyPem, next);
    assert.notEqual(after.keyPem, before.keyPem);
  });

  test("is whole whenever an installation dies between its two files", async () => {
    const node = await anEnrolledNode();
    const certificate = await answer(await node.request());
    const next = await readFile(certs("next.key"), "utf8");
    // As after a kill between the certificate and the name of its key.
    await writeFile(certs("node.crt"), certificate);
    assert.equal((await node.current()).keyPem, next);
    assert.equal(await readFile(certs("node.key"), "utf8"), next, "and it is mended");
  });

  test("takes no certificate of another CA, node, role or key, and none that has ended", async () => {
    const node = await anEnrolledNode();
    const before = await node.current();
    const request = await node.request();
    const other = new FileAuthority(join(folder, "other"));
    await other.init("other", nowMs);
    const foreign = await other.issue({ requestPem: request, role: "node" }, dayMs, nowMs);
    const coordinator = await authority.issue(
      { requestPem: request, role: "coordinator" },
      dayMs,
      nowMs,
    );
    const elsewhere = await authority.issue({ role: "node", id: "another-node" }, dayMs, nowMs);
    const { node_id: id } = await node.status();
    const otherKey = await authority.issue({ role: "node", id }, dayMs, nowMs);
    const ended = await authority.issue(
      { requestPem: request, role: "node" },
      dayMs,
      nowMs - 2 * dayMs,
    );
    for (const [pem, why] of [
      [foreign.certificatePem, /not of this node's CA/],
      [coordinator.certificatePem, /for coordinator/],
      [elsewhere.certificatePem, /another-node/],
      [otherKey.certificatePem, /another key/],
      [ended.certificatePem, /has ended/],
      ["no certificate", /no certificate in PEM/],
    ] as const) {
      await assert.rejects(
        node.install({ certificate: pem }),
        (error) => error instanceof NotTrustedError && why.test(error.message),
        String(why),
      );
    }
    assert.deepEqual(await node.current(), before);
  });

  test("takes no certificate that was revoked, or that begins tomorrow", async () => {
    const node = await anEnrolledNode();
    const before = await node.current();
    const certificate = await answer(await node.request());
    const [serial = ""] = (await authority.issued()).map((one) => one.serial).slice(-1);
    await authority.revoke(serial, nowMs);
    const revocations = await authority.revocations();
    await assert.rejects(node.install({ certificate, revocations }), /was revoked/);
    assert.deepEqual(await node.current(), before, "neither of the two is written");
    const early = await authority.issue(
      { requestPem: await node.request(), role: "node" },
      dayMs,
      nowMs + 2 * dayMs,
    );
    await assert.rejects(node.install({ certificate: early.certificatePem }), /begins on/);
  });

  test("that is damaged on disk is an error with its type, and lets nobody in", async () => {
    const node = await anEnrolledNode();
    await node.install({ revocations: await authority.revocations() });
    for (const name of ["node.crt", "ca.crl"]) {
      const whole = await readFile(certs(name), "utf8");
      await writeFile(certs(name), whole.slice(0, 100));
      await assert.rejects(node.status(), NotTrustedError, name);
      if (name === "ca.crl") await assert.rejects(node.current(), NotTrustedError);
      await writeFile(certs(name), whole);
    }
    await writeFile(certs("node.key"), "cut off");
    await assert.rejects(node.current(), HostLacksError);
  });

  test("that has ended can be enrolled again", async () => {
    const node = await anEnrolledNode();
    nowMs += 3 * dayMs;
    assert.equal((await node.status()).certificate?.expired, true);
    await node.install({ certificate: await answer(await node.request()) });
    assert.equal((await node.status()).certificate?.expired, false);
  });

  test("believes its CA's newest list of what was revoked, and no older one", async () => {
    const node = await anEnrolledNode();
    const old = await authority.revocations();
    const mine = (await node.status()).certificate?.serial ?? "";
    nowMs += 5000;
    assert.equal((await authority.revoke(mine, nowMs)).length, 1);
    await node.install({ revocations: await authority.revocations() });
    assert.deepEqual([...(await node.current()).revoked], [mine]);
    await assert.rejects(node.install({ revocations: old }), /older than the one/);
    const other = new FileAuthority(join(folder, "other"));
    await other.init("other", nowMs);
    const foreign = await other.revocations();
    await assert.rejects(node.install({ revocations: foreign }), NotTrustedError);
  });

  test("of development is made anew from the CA that lies on the node", async () => {
    const node = new FileIdentity(rootsOf("alone"), () => nowMs);
    await node.init();
    const before = await node.current();
    await node.rotate();
    const after = await node.current();
    assert.notEqual(after.keyPem, before.keyPem);
    assert.equal(after.caPem, before.caPem);
    const enrolled = await anEnrolledNode();
    await assert.rejects(enrolled.rotate(), ConflictError);
  });

  test("a CA is never overwritten, and its coordinator's certificate is renewed in time", async () => {
    await assert.rejects(authority.init("again", nowMs), ConflictError);
    const before = await authority.identity(nowMs);
    assert.deepEqual(await authority.identity(nowMs + 10 * dayMs), before);
    const after = await authority.identity(nowMs + 60 * dayMs);
    assert.notEqual(after.certificatePem, before.certificatePem);
    assert.equal(after.caPem, caPem);
  });

  test("a CA that was half made is made anew", async () => {
    await rename(join(folder, "coordinator", "ca.crt"), join(folder, "lost"));
    assert.notEqual(await authority.init("fleet", nowMs), caPem);
  });

  test("a request decides nothing but the key: another node's id is refused when one is expected", async () => {
    const node = await aNode();
    const requestPem = await node.request();
    const asked = authority.issue(
      { requestPem, role: "node", expectedId: "another-node" },
      dayMs,
      nowMs,
    );
    await assert.rejects(asked, NotTrustedError);
    await assert.rejects(
      authority.issue({ requestPem: "nothing", role: "node" }, dayMs, nowMs),
      NotTrustedError,
    );
    await assert.rejects(authority.revoke("nobody", nowMs), NotFoundError);
  });
});
