import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFile,
  mkdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { AuditEvent } from "../../../../src/domain/audit.ts";
import { parseTenantId } from "../../../../src/domain/ids.ts";
import { AuditFiles } from "../../../../src/host/audit/audit-disk.ts";
import { AuditLog } from "../../../../src/host/audit/audit-log.ts";
import { NodeSigner } from "../../../../src/host/audit/node-signer.ts";
import { ensureIdentity } from "../../../../src/host/setup/identity.ts";
import { systemClock } from "../../../../src/host/system-clock.ts";
import { TemporaryRoots } from "../../../builders/temporary-roots.ts";

const acme = parseTenantId("acme");

function event(name: string): AuditEvent {
  return { type: "SecretsSet", object: "acme", names: [name] };
}

function logOf(roots: TemporaryRoots): AuditLog {
  return new AuditLog({
    disk: new AuditFiles(roots),
    signer: new NodeSigner(roots.stateDir),
    clock: systemClock,
    by: "root",
  });
}

function pathOf(roots: TemporaryRoots, name: "audit.log" | "audit.head"): string {
  return join(roots.stateDir, "tenants", "acme", name);
}

async function makeIdentity({ stateDir }: TemporaryRoots): Promise<void> {
  await mkdir(stateDir, { recursive: true });
  await ensureIdentity(stateDir, Date.now());
}

/** A log with lines 1 to `count` on a node with a key. */
async function filledLog(roots: TemporaryRoots, count = 5): Promise<AuditLog> {
  await makeIdentity(roots);
  const log = logOf(roots);
  for (let line = 1; line <= count; line += 1) await log.append(acme, event(`name-${line}`));
  return log;
}

async function problemsOf(roots: TemporaryRoots): Promise<string[]> {
  const verdict = await logOf(roots).verify(acme);
  assert.ok(verdict);
  return verdict.problems.map(({ line, problem }) => `${line ?? "-"}: ${problem}`);
}

async function changeLines(
  roots: TemporaryRoots,
  change: (lines: string[]) => string[],
): Promise<void> {
  const path = pathOf(roots, "audit.log");
  const lines = (await readFile(path, "utf8")).trimEnd().split("\n");
  await writeFile(path, `${change(lines).join("\n")}\n`);
}

describe("an audit log that nobody touched", () => {
  test("is verified, and tells who did what and when, oldest first", async () => {
    await using roots = await TemporaryRoots.make();
    const log = await filledLog(roots);
    const verdict = await log.verify(acme);
    assert.deepEqual(verdict?.problems, []);
    assert.equal(verdict.lines, 5);
    assert.equal(verdict.head?.sequence, 5);
    assert.deepEqual(verdict.head.counts, { SecretsSet: 5 });
    const entries = await log.last(acme, 2);
    assert.deepEqual(
      entries?.map(({ sequence, by, type, object, fields }) => ({
        sequence,
        by,
        type,
        object,
        fields,
      })),
      [4, 5].map((sequence) => ({
        sequence,
        by: "root",
        type: "SecretsSet",
        object: "acme",
        fields: { names: [`name-${sequence}`] },
      })),
    );
  });

  test("and its head are 0600", async () => {
    await using roots = await TemporaryRoots.make();
    await filledLog(roots, 1);
    for (const name of ["audit.log", "audit.head"] as const) {
      assert.equal((await stat(pathOf(roots, name))).mode & 0o777, 0o600);
    }
  });

  test("has every line once when many are added at once", async () => {
    await using roots = await TemporaryRoots.make();
    const log = await filledLog(roots, 0);
    await Promise.all(Array.from({ length: 30 }, async (_, n) => log.append(acme, event(`${n}`))));
    assert.deepEqual(await problemsOf(roots), []);
    assert.equal((await log.last(acme, 100))?.length, 30);
  });

  test("goes on after the node's key was renewed", async () => {
    await using roots = await TemporaryRoots.make();
    const log = await filledLog(roots, 2);
    await rm(join(roots.stateDir, "certs", "node.key"));
    await rm(join(roots.stateDir, "certs", "node.crt"));
    await makeIdentity(roots);
    assert.deepEqual(await problemsOf(roots), []);
    await log.append(acme, event("after"));
    assert.deepEqual(await problemsOf(roots), []);
  });

  test("keeps terminal sequences and overlong texts out", async () => {
    await using roots = await TemporaryRoots.make();
    const log = await filledLog(roots, 0);
    const cause = `\u001b[2J\u009b31m${"x".repeat(10_000)}`;
    await log.append(acme, { type: "ActionFailed", object: "acme/web", action: "build", cause });
    const [entry] = (await log.last(acme, 1)) ?? [];
    assert.match(String(entry?.fields["cause"]), /^[x31m]{2000}$/);
  });
});

test("a tenant without a log has none", async () => {
  await using roots = await TemporaryRoots.make();
  const log = logOf(roots);
  assert.equal(await log.verify(acme), undefined);
  assert.equal(await log.last(acme, 3), undefined);
  assert.equal(await log.head(acme), undefined);
});

/** The line with another name in it, sealed anew as whoever knows the form can do. */
function forge(line: string, previous?: string): string {
  const { hash: _, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const chained = previous === undefined ? fields : { ...fields, previous };
  const body = JSON.stringify({ ...chained }).replace("name-", "forged-");
  const hash = createHash("sha256").update(body).digest("hex");
  return `${body.slice(0, -1)},"hash":"${hash}"}`;
}

/** Lines forged one after the other, so that each follows the one before. */
function rewrite(lines: readonly string[]): string[] {
  let previous: string | undefined;
  return lines.map((line) => {
    const forged = forge(line, previous);
    previous = (JSON.parse(forged) as { hash: string }).hash;
    return forged;
  });
}

const tampering: readonly (readonly [
  what: string,
  says: RegExp,
  tamper: (roots: TemporaryRoots) => Promise<void>,
])[] = [
  [
    "a changed line",
    /^3: its hash does not fit its content: it was changed$/,
    (roots) => changeLines(roots, (lines) => lines.map((line) => line.replace("name-3", "name-X"))),
  ],
  [
    "a line with a space more",
    /^2: its hash does not fit/,
    (roots) =>
      changeLines(roots, (lines) =>
        lines.map((line, n) => (n === 1 ? line.replace(",", ", ") : line)),
      ),
  ],
  [
    "a line that was exchanged for one with a hash that fits it",
    /^4: it does not follow the line before it: one was exchanged$/,
    (roots) =>
      changeLines(roots, (lines) => lines.map((line, n) => (n === 2 ? forge(line) : line))),
  ],
  [
    "an end that was written anew, every hash fitting",
    /^-: number 5 of the log is not the line that the head was signed for$/,
    (roots) => changeLines(roots, (lines) => [...lines.slice(0, 2), ...rewrite(lines.slice(2))]),
  ],
  [
    "a removed line",
    /^3: it is number 4 of the log: line 3 is missing before it$/,
    (roots) => changeLines(roots, (lines) => lines.toSpliced(2, 1)),
  ],
  [
    "a removed first line",
    /^1: it is number 2 of the log: line 1 is missing/,
    (roots) => changeLines(roots, (lines) => lines.slice(1)),
  ],
  [
    "two lines in the wrong order",
    /^3: it is number 2 of the log and stands where number 4 belongs$/,
    (roots) =>
      changeLines(roots, ([one, two, three, ...rest]) => [one, three, two, ...rest].map(String)),
  ],
  [
    "a line that is there twice",
    /^3: it is number 2 of the log and stands where number 3 belongs$/,
    (roots) => changeLines(roots, (lines) => lines.toSpliced(2, 0, lines[1] ?? "")),
  ],
  [
    "a tail that was cut off at a line",
    /^-: the log ends with number 3, and the signed head names number 5: its end was cut off$/,
    (roots) => changeLines(roots, (lines) => lines.slice(0, 3)),
  ],
  [
    "a tail that was cut off within a line",
    /^5: it is cut off/,
    async (roots) => {
      const { size } = await stat(pathOf(roots, "audit.log"));
      await truncate(pathOf(roots, "audit.log"), size - 20);
    },
  ],
  [
    "a log that was emptied",
    /the log ends with number 0, and the signed head names number 5/,
    (roots) => truncate(pathOf(roots, "audit.log"), 0),
  ],
  ["a log that was removed", /its end was cut off/, (roots) => rm(pathOf(roots, "audit.log"))],
  [
    "bytes that are no line",
    /^6: it is no line of an audit log$/,
    (roots) => appendFile(pathOf(roots, "audit.log"), "garbage\n"),
  ],
  [
    "a line of another log",
    /^6: it is number 1 of the log and stands where number 6 belongs$/,
    async (roots) => {
      const first = (await readFile(pathOf(roots, "audit.log"), "utf8")).split("\n")[0];
      await appendFile(pathOf(roots, "audit.log"), `${first}\n`);
    },
  ],
  [
    "a head that was removed",
    /^-: there is no signed head beside the log$/,
    (roots) => rm(pathOf(roots, "audit.head")),
  ],
  [
    "a head that was changed to fit a shorter log",
    /^-: the signed head is not to be trusted: its signature does not fit what it says$/,
    async (roots) => {
      await changeLines(roots, (lines) => lines.slice(0, 3));
      const text = await readFile(pathOf(roots, "audit.head"), "utf8");
      await writeFile(pathOf(roots, "audit.head"), text.replace('"sequence":5', '"sequence":3'));
    },
  ],
  [
    "a head that another CA's node signed",
    /not to be trusted: its certificate is none that this node's CA issued/,
    async (roots) => {
      await using elsewhere = await TemporaryRoots.make();
      await filledLog(elsewhere);
      const head = await readFile(pathOf(elsewhere, "audit.head"));
      await writeFile(pathOf(roots, "audit.head"), head);
    },
  ],
  [
    "a head without a signature",
    /the head is not signed/,
    async (roots) => {
      const head = JSON.parse(await readFile(pathOf(roots, "audit.head"), "utf8")) as object;
      await writeFile(pathOf(roots, "audit.head"), JSON.stringify({ ...head, signature: null }));
    },
  ],
];

for (const [what, says, tamper] of tampering) {
  test(`${what} is found and named, and stays to be seen when the log goes on`, async () => {
    await using roots = await TemporaryRoots.make();
    await filledLog(roots);
    await tamper(roots);
    const found = await problemsOf(roots);
    assert.ok(
      found.some((problem) => says.test(problem)),
      found.join("\n"),
    );
    await logOf(roots).append(acme, event("after"));
    const entries = await logOf(roots).last(acme, 3);
    assert.equal(entries?.at(-1)?.type, "SecretsSet", "the log goes on");
    if (what === "a head without a signature") {
      assert.equal(entries.at(-2)?.type, "AuditRecovered");
    } else {
      assert.notDeepEqual(await problemsOf(roots), []);
    }
  });
}

describe("a writer that dies", () => {
  test("within a line leaves one that is removed, and that is written down", async () => {
    await using roots = await TemporaryRoots.make();
    const log = await filledLog(roots, 2);
    const path = pathOf(roots, "audit.log");
    const line = (await readFile(path, "utf8")).split("\n")[1] ?? "";
    for (const length of [1, 20, line.length - 1, line.length]) {
      const { size } = await stat(path);
      await appendFile(path, line.slice(0, length));
      assert.notDeepEqual(await problemsOf(roots), [], "it is not taken for a line");
      await log.append(acme, event("after"));
      assert.deepEqual(await problemsOf(roots), []);
      const [recovered] = (await log.last(acme, 2)) ?? [];
      assert.equal(recovered?.type, "AuditRecovered");
      assert.deepEqual(recovered.fields, { lines: 0, torn_bytes: length });
      assert.equal((await readFile(path, "utf8")).slice(size).startsWith('{"sequence"'), true);
    }
  });

  test("between a line and its head leaves one that is not signed; the next one writes that down", async () => {
    await using roots = await TemporaryRoots.make();
    const log = await filledLog(roots, 2);
    const head = await readFile(pathOf(roots, "audit.head"));
    await log.append(acme, event("third"));
    await writeFile(pathOf(roots, "audit.head"), head);
    assert.match((await problemsOf(roots)).join(), /^-: numbers 3 to 3 are not signed/);
    await log.append(acme, event("fourth"));
    assert.deepEqual(await problemsOf(roots), []);
    const entries = (await log.last(acme, 3)) ?? [];
    assert.deepEqual(
      entries.map(({ type, fields }) => [type, fields["lines"]]),
      [
        ["SecretsSet", undefined],
        ["AuditRecovered", 1],
        ["SecretsSet", undefined],
      ],
    );
    assert.deepEqual((await log.head(acme))?.counts, { SecretsSet: 4, AuditRecovered: 1 });
  });

  test("at any moment loses no line that was answered, and the next one goes on", async () => {
    await using roots = await TemporaryRoots.make();
    await filledLog(roots, 1);
    const module = (path: string): string =>
      JSON.stringify(new URL(`../../../../src/${path}`, import.meta.url).href);
    const script = `
const { AuditLog } = await import(${module("host/audit/audit-log.ts")});
const { AuditFiles } = await import(${module("host/audit/audit-disk.ts")});
const { NodeSigner } = await import(${module("host/audit/node-signer.ts")});
const { systemClock } = await import(${module("host/system-clock.ts")});
const roots = JSON.parse(process.argv[1]);
const log = new AuditLog({ disk: new AuditFiles(roots), signer: new NodeSigner(roots.stateDir), clock: systemClock, by: "root" });
for (let count = 0; ; count += 1) {
  await log.append("acme", { type: "SecretsSet", object: "acme", names: [String(count)] });
  process.stdout.write(count + "\\n");
}`;
    for (let round = 0; round < 10; round += 1) {
      const writer = spawn(
        process.execPath,
        ["--input-type=module", "-e", script, JSON.stringify(roots)],
        { stdio: ["ignore", "pipe", "inherit"] },
      );
      let answered = "";
      writer.stdout.on("data", (bytes: Buffer) => {
        answered += bytes.toString();
      });
      await once(writer.stdout, "data");
      await delay(round * 7);
      const closed = once(writer, "close");
      writer.kill("SIGKILL");
      await closed;
      const last = answered.trimEnd().split("\n").at(-1);
      const names = (await logOf(roots).last(acme, 10_000))?.map(({ fields }) => fields["names"]);
      assert.ok(names?.some((found) => JSON.stringify(found) === JSON.stringify([last])));
      await logOf(roots).append(acme, event("after"));
      assert.deepEqual(await problemsOf(roots), []);
    }
  });
});

test("a log on a node without a key says so, and is signed once there is one", async () => {
  await using roots = await TemporaryRoots.make();
  const log = logOf(roots);
  await log.append(acme, event("first"));
  assert.match((await problemsOf(roots)).join(), /^-: the head is not signed: .*mvm add host$/);
  assert.equal((await log.head(acme))?.signed, false);
  await makeIdentity(roots);
  await log.append(acme, event("second"));
  assert.deepEqual(await problemsOf(roots), []);
  assert.equal((await log.last(acme, 2))?.[0]?.type, "AuditRecovered");
});

test("a link in the place of a log is not followed", async () => {
  await using roots = await TemporaryRoots.make();
  const log = await filledLog(roots, 1);
  const elsewhere = join(roots.stateDir, "elsewhere");
  await writeFile(elsewhere, "");
  await rm(pathOf(roots, "audit.log"));
  await symlink(elsewhere, pathOf(roots, "audit.log"));
  await assert.rejects(log.append(acme, event("x")), /the audit log of acme cannot be written/);
  assert.equal(await readFile(elsewhere, "utf8"), "");
});
