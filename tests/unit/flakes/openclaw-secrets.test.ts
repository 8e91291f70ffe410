import assert from "node:assert/strict";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { TemporaryRoots } from "../../builders/temporary-roots.ts";

interface Secrets {
  readonly providers: Readonly<Record<string, unknown>>;
  readonly byName: ReadonlyMap<string, unknown>;
}
interface Module {
  readonly readSecrets: (folder: string) => Secrets;
  readonly withSecrets: (
    config: object,
    secrets: Secrets,
  ) => Record<string, Record<string, unknown>>;
  readonly secretEnvironment: (secrets: Secrets) => Record<string, string>;
}

const file = new URL("../../../nix/flakes/openclaw/secrets.mjs", import.meta.url).href;
const { readSecrets, withSecrets, secretEnvironment } = (await import(file)) as Module;

const token = { OPENCLAW_GATEWAY_TOKEN: "t" };

/** A folder as the secrets drive is mounted: the paths of files and what is in them. */
async function drive(roots: TemporaryRoots, files: Record<string, unknown>): Promise<string> {
  for (const [name, content] of Object.entries(files)) {
    const path = join(roots.folder, name);
    await mkdir(join(path, ".."), { recursive: true });
    await writeFile(path, typeof content === "string" ? content : JSON.stringify(content));
  }
  return roots.folder;
}

const reference = (name: string, provider = "vm"): object => ({
  source: "file",
  provider,
  id: `/${name}`,
});

test("a secret that becomes a setting is referred to and never in the settings or the environment", async () => {
  await using roots = await TemporaryRoots.make();
  const values = { ...token, TELEGRAM_BOT_TOKEN: "secret-telegram" };
  const secrets = readSecrets(await drive(roots, { "secrets.json": values }));
  const config = withSecrets({}, secrets);
  assert.deepEqual(config["gateway"]?.["auth"], { token: reference("OPENCLAW_GATEWAY_TOKEN") });
  assert.deepEqual(config["channels"]?.["telegram"], {
    enabled: true,
    botToken: reference("TELEGRAM_BOT_TOKEN"),
  });
  assert.deepEqual(config["secrets"]?.["providers"], {
    vm: { source: "file", path: join(roots.folder, "secrets.json"), mode: "json" },
  });
  assert.ok(!JSON.stringify(config).includes("secret-telegram"));
  assert.deepEqual(secretEnvironment(secrets), {});
});

test("keys of model providers are in OpenClaw's environment, and nothing else is", async () => {
  await using roots = await TemporaryRoots.make();
  const values = {
    ...token,
    ANTHROPIC_API_KEY: "a",
    CLAUDE_CODE_OAUTH_TOKEN: "c",
    SLACK_BOT_TOKEN: "s",
    OPENCLAW_SECRET_API_KEY: "o",
    PATH: "/evil",
    lower_api_key: "l",
  };
  const secrets = readSecrets(await drive(roots, { "secrets.json": values }));
  assert.deepEqual(secretEnvironment(secrets), {
    ANTHROPIC_API_KEY: "a",
    CLAUDE_CODE_OAUTH_TOKEN: "c",
  });
});

test("tokens of a channel whose plugin is not there become settings once the user has set it up", async () => {
  await using roots = await TemporaryRoots.make();
  const values = { ...token, SLACK_BOT_TOKEN: "b", SLACK_APP_TOKEN: "a", DISCORD_BOT_TOKEN: "d" };
  const secrets = readSecrets(await drive(roots, { "secrets.json": values }));
  assert.equal(withSecrets({}, secrets)["channels"], undefined);
  const config = withSecrets({ channels: { slack: { mode: "socket" } } }, secrets);
  assert.deepEqual(config["channels"], {
    slack: {
      mode: "socket",
      botToken: reference("SLACK_BOT_TOKEN"),
      appToken: reference("SLACK_APP_TOKEN"),
    },
  });
});

test("with scopes each secret is referred to where this user may read it", async () => {
  await using roots = await TemporaryRoots.make();
  const secrets = readSecrets(
    await drive(roots, {
      "worker/secrets.json": token,
      "telegram/secrets.json": { TELEGRAM_BOT_TOKEN: "b" },
    }),
  );
  const config = withSecrets({}, secrets);
  assert.deepEqual(config["gateway"]?.["auth"], {
    token: reference("OPENCLAW_GATEWAY_TOKEN", "vm-worker"),
  });
  assert.deepEqual(Object.keys(config["secrets"]?.["providers"] as object).toSorted(), [
    "vm-telegram",
    "vm-worker",
  ]);
});

test("a setting whose secret is gone is taken out, and what the user set stays", async () => {
  await using roots = await TemporaryRoots.make();
  const secrets = readSecrets(await drive(roots, { "secrets.json": token }));
  const before = {
    channels: {
      telegram: { enabled: true, dmPolicy: "pairing", botToken: reference("TELEGRAM_BOT_TOKEN") },
      slack: { botToken: "set by hand" },
    },
    secrets: { providers: { "vm-old": {}, vault: { source: "exec" } } },
  };
  const config = withSecrets(before, secrets);
  assert.deepEqual(config["channels"], {
    telegram: { enabled: false, dmPolicy: "pairing" },
    slack: { botToken: "set by hand" },
  });
  assert.deepEqual(Object.keys(config["secrets"]?.["providers"] as object).toSorted(), [
    "vault",
    "vm",
  ]);
});

test("an error about a file says nothing of what is in it", async () => {
  await using roots = await TemporaryRoots.make();
  const folder = await drive(roots, { "secrets.json": '{"KEY":"canary' });
  assert.throws(
    () => readSecrets(folder),
    (error: Error) => !error.message.includes("canary") && /is not JSON/.test(error.message),
  );
});

const skip = process.getuid?.() === 0 ? "root reads every file" : false;
test("a file of another user is passed over", { skip }, async () => {
  await using roots = await TemporaryRoots.make();
  const folder = await drive(roots, {
    "worker/secrets.json": token,
    "other/secrets.json": { KEY: "x" },
  });
  await chmod(join(folder, "other"), 0o000);
  assert.ok(!readSecrets(folder).byName.has("KEY"));
  await chmod(join(folder, "other"), 0o700);
});
