import assert from "node:assert/strict";
import { chmod, chown, mkdir, rename, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { MvmError, NotTrustedError, UsageError } from "../../../../src/domain/errors.ts";
import { readWaivers } from "../../../../src/host/setup/waivers-file.ts";
import { TemporaryRoots } from "../../../builders/temporary-roots.ts";

const self = process.getuid?.() ?? 0;

function waive(fields: Readonly<Record<string, string>> = {}): string {
  const all = {
    promise: '"cgroup-v2"',
    reason: '"bought with the next hosts"',
    until: "2027-06-30T12:00:00+02:00",
    ...fields,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name} = ${value}`);
  return ["[[waive]]", ...lines.filter((line) => !line.endsWith("= ")), ""].join("\n");
}

async function file(made: TemporaryRoots, content: string | Uint8Array): Promise<string> {
  await mkdir(made.configDir, { mode: 0o755 });
  const path = join(made.configDir, "waivers.toml");
  await writeFile(path, content, { mode: 0o644 });
  return path;
}

test("waivers are read with their promise, reason and end", async () => {
  await using made = await TemporaryRoots.make();
  const path = await file(made, waive() + waive({ promise: '"encryption"' }));
  assert.deepEqual(await readWaivers(path, self), [
    {
      promise: "cgroup-v2",
      reason: "bought with the next hosts",
      untilMs: Date.parse("2027-06-30T10:00:00Z"),
    },
    {
      promise: "encryption",
      reason: "bought with the next hosts",
      untilMs: Date.parse("2027-06-30T10:00:00Z"),
    },
  ]);
});

test("without a file, and with an empty one, nothing is waived", async () => {
  await using made = await TemporaryRoots.make();
  assert.deepEqual(await readWaivers(join(made.configDir, "waivers.toml"), self), []);
  assert.deepEqual(await readWaivers(await file(made, "# nothing\n"), self), []);
});

for (const [what, content, message] of [
  [
    "an unknown promise",
    waive({ promise: '"jail"' }),
    /waive\[0\]\.promise: there is no promise "jail"/,
  ],
  [
    "a promise that cannot be waived",
    waive({ promise: '"mtls"' }),
    /waive\[0\]\.promise: mtls cannot be waived/,
  ],
  ["no promise", waive({ promise: "" }), /waive\[0\]\.promise: /],
  ["no reason", waive({ reason: "" }), /waive\[0\]\.reason: /],
  ["an empty reason", waive({ reason: '"  "' }), /waive\[0\]\.reason: somebody has to/],
  [
    "a reason that steers a terminal",
    waive({ reason: '"\\u001b[2J"' }),
    /waive\[0\]\.reason: a single line/,
  ],
  ["a long reason", waive({ reason: `"${"a".repeat(501)}"` }), /waive\[0\]\.reason: /],
  ["no end", waive({ until: "" }), /waive\[0\]\.until: a time with its offset/],
  ["a day as its end", waive({ until: "2027-06-30" }), /waive\[0\]\.until: a time with its offset/],
  ["a local time as its end", waive({ until: "2027-06-30T12:00:00" }), /waive\[0\]\.until: a time/],
  ["a text as its end", waive({ until: '"never"' }), /waive\[0\]\.until: a time with its offset/],
  ["an unknown field", waive({ scope: '"all"' }), /waive\[0\]: .*scope/],
  ["an unknown table", `[waivers]\n${waive()}`, /the file: .*waivers/],
  ["waive as no list", 'waive = "all"\n', /waive: /],
  ["the same promise twice", waive() + waive(), /waive\[1\]\.promise: cgroup-v2 is there twice/],
  ["what is no TOML", "[[waive\n", /line 1, column \d+: /],
  ["more than 64 KiB", `# ${"a".repeat(65_536)}\n${waive()}`, /longer than 64 KiB/],
] as const) {
  test(`a file with ${what} is refused as a whole`, async () => {
    await using made = await TemporaryRoots.make();
    const path = await file(
      made,
      content + (content.startsWith("[[waive]]") ? waive({ promise: '"audit"' }) : ""),
    );
    await assert.rejects(readWaivers(path, self), (error) => {
      assert.ok(error instanceof UsageError);
      assert.match(error.message, message);
      assert.ok(error.message.startsWith(`${path} cannot be used: `));
      return true;
    });
  });
}

test("all problems of a file are told at once", async () => {
  await using made = await TemporaryRoots.make();
  const path = await file(made, waive({ promise: '"mtls"', reason: '""', until: "1979-05-27" }));
  await assert.rejects(readWaivers(path, self), /promise: .*reason: .*until: /);
});

test("a file that others can write is refused", async () => {
  await using made = await TemporaryRoots.make();
  const path = await file(made, waive());
  for (const mode of [0o664, 0o646, 0o666]) {
    await chmod(path, mode);
    await assert.rejects(readWaivers(path, self), (error) => {
      assert.ok(error instanceof NotTrustedError);
      assert.match(error.message, /others than root can write .*waivers\.toml/);
      assert.match(error.hint ?? "", /chmod go-w/);
      return true;
    });
  }
});

test("a file in a folder that others can write is refused", async () => {
  await using made = await TemporaryRoots.make();
  const path = await file(made, waive());
  await chmod(made.configDir, 0o777);
  await assert.rejects(readWaivers(path, self), /others than root can write .*etc: /);
});

test("a file of another user is refused", async (test) => {
  if (self !== 0) {
    test.skip("only root can give a file to another user");
    return;
  }
  await using made = await TemporaryRoots.make();
  const path = await file(made, waive());
  await chown(path, 65_534, 65_534);
  await assert.rejects(readWaivers(path), NotTrustedError);
});

test("a link and a folder in its place are refused", async () => {
  await using made = await TemporaryRoots.make();
  const path = await file(made, waive());
  await rename(path, `${path}.real`);
  await symlink(`${path}.real`, path);
  await assert.rejects(readWaivers(path, self), (error) => {
    assert.ok(error instanceof NotTrustedError);
    assert.match(error.message, /is a link/);
    return true;
  });
  await assert.rejects(readWaivers(made.configDir, self), /is no plain file/);
});

test("a file below what is no folder cannot be read, and that is no waiver", async () => {
  await using made = await TemporaryRoots.make();
  const path = await file(made, waive());
  await assert.rejects(readWaivers(join(path, "waivers.toml"), self), (error) => {
    assert.ok(error instanceof MvmError);
    assert.match(error.message, /cannot be read/);
    return true;
  });
});
