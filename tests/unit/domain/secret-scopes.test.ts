import assert from "node:assert/strict";
import { test } from "node:test";
import { UsageError } from "../../../src/domain/errors.ts";
import {
  assertSecretScopes,
  formatSecretScope,
  integrationUid,
  parseSecretScope,
  secretsFiles,
} from "../../../src/domain/secret-scopes.ts";
import { secretScopesSchema } from "../../../src/domain/secret-scopes-schema.ts";

const secrets = { TELEGRAM_BOT_TOKEN: "t", SLACK_BOT_TOKEN: "s", ANTHROPIC_API_KEY: "a" };

test("without scopes there is one file with every secret, for the worker", () => {
  assert.deepEqual(secretsFiles([], secrets), [{ integration: null, uid: 1000, values: secrets }]);
});

test("with scopes each integration gets its keys and no others, as its own user", () => {
  const scopes = [
    { integration: "telegram", keys: ["TELEGRAM_BOT_TOKEN", "NOT_SET_YET"] },
    { integration: "worker", keys: ["ANTHROPIC_API_KEY"] },
  ];
  const files = secretsFiles(scopes, secrets);
  assert.deepEqual(
    files.map(({ integration, values }) => [integration, values]),
    [
      ["telegram", { TELEGRAM_BOT_TOKEN: "t" }],
      ["worker", { ANTHROPIC_API_KEY: "a" }],
    ],
  );
  assert.deepEqual(
    files.map(({ uid }) => uid),
    [integrationUid("telegram"), 1000],
  );
});

test("an integration's uid follows from its name and is nobody else's", () => {
  assert.equal(integrationUid("telegram"), integrationUid("telegram"));
  assert.notEqual(integrationUid("telegram"), integrationUid("slack"));
  for (const name of ["a", "telegram", "z-9"]) {
    const uid = integrationUid(name);
    assert.ok(uid >= 20_000 && uid < 60_000, `${name}: ${uid}`);
  }
});

test("a scope is read back as it was written", () => {
  const scope = { integration: "telegram", keys: ["A", "B"] };
  assert.deepEqual(parseSecretScope(formatSecretScope(scope)), scope);
});

test("a scope is written as integration=KEY,KEY", () => {
  assert.deepEqual(parseSecretScope("telegram=TELEGRAM_BOT_TOKEN,OTHER"), {
    integration: "telegram",
    keys: ["TELEGRAM_BOT_TOKEN", "OTHER"],
  });
});

for (const text of [
  "",
  "telegram",
  "telegram=",
  "=KEY",
  "telegram=KEY,",
  "telegram=BAD KEY",
  "Telegram=KEY",
  "../x=KEY",
  "a/b=KEY",
  "root=KEY",
  "nobody=KEY",
]) {
  test(`${JSON.stringify(text)} is no scope`, () => {
    assert.throws(() => parseSecretScope(text), UsageError);
  });
}

test("two scopes of one integration, or of names that would be one user, are refused", () => {
  const scope = (integration: string): { integration: string; keys: string[] } => ({
    integration,
    keys: ["KEY"],
  });
  assert.throws(() => assertSecretScopes([scope("slack"), scope("slack")]), /two secret scopes/);
  const twins = findTwins();
  assert.throws(() => assertSecretScopes(twins.map(scope)), /would be one user/);
  assert.ok(!secretScopesSchema.safeParse(twins.map(scope)).success);
  assertSecretScopes([scope("slack"), scope("telegram"), scope("worker")]);
});

test("a pool has a bounded number of scopes", () => {
  const many = Array.from({ length: 17 }, (_, index) => ({
    integration: `integration-${index}`,
    keys: ["KEY"],
  }));
  assert.throws(() => assertSecretScopes(many), /at most 16/);
});

/** Two names with one uid: among a few hundred there are some. */
function findTwins(): [string, string] {
  const byUid = new Map<number, string>();
  for (let number = 0; number < 10_000; number += 1) {
    const name = `n${number}`;
    const other = byUid.get(integrationUid(name));
    if (other !== undefined) return [other, name];
    byUid.set(integrationUid(name), name);
  }
  throw new Error("no two names have one uid");
}
