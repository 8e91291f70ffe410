import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFile, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { TemporaryRoots } from "../../builders/temporary-roots.ts";

const flake = new URL("../../../nix/flakes/openclaw/", import.meta.url);
/** In OpenClaw's place: says what it was started with. */
const stub = `process.stdout.write(JSON.stringify({ args: process.argv.slice(2), env: process.env }));`;

interface Started {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the start script as its image would, with a stub for OpenClaw. */
async function start(roots: TemporaryRoots, secrets: string, config?: string): Promise<Started> {
  const lib = join(roots.folder, "lib");
  const openclaw = join(lib, "node_modules", "openclaw");
  const secretsFolder = join(roots.folder, "secrets");
  const stateFolder = join(roots.folder, "data");
  for (const folder of [openclaw, secretsFolder, stateFolder]) {
    await mkdir(folder, { recursive: true });
  }
  for (const name of ["start.mjs", "secrets.mjs"]) {
    await copyFile(new URL(name, flake), join(lib, name));
  }
  await writeFile(join(openclaw, "openclaw.mjs"), stub);
  await writeFile(join(secretsFolder, "secrets.json"), secrets);
  if (config !== undefined) await writeFile(join(stateFolder, "openclaw.json"), config);
  return spawnSync(process.execPath, [join(lib, "start.mjs")], {
    env: { OPENCLAW_STATE_DIR: stateFolder, MVM_SECRETS_DIR: secretsFolder, LEFT_OVER: "x" },
    encoding: "utf8",
    timeout: 20_000,
  });
}

test("OpenClaw starts with references in its settings, provider keys in its environment, and no secret elsewhere", async () => {
  await using roots = await TemporaryRoots.make();
  const secrets = {
    OPENCLAW_GATEWAY_TOKEN: "canary-token",
    TELEGRAM_BOT_TOKEN: "canary-telegram",
    ANTHROPIC_API_KEY: "canary-key",
  };
  const kept = { agents: { defaults: { model: "mine" } }, gateway: { controlUi: { extra: 1 } } };
  const { status, stdout, stderr } = await start(
    roots,
    JSON.stringify(secrets),
    JSON.stringify(kept),
  );
  assert.equal(status, 0, stderr);
  const started = JSON.parse(stdout) as { args: string[]; env: Record<string, string> };
  assert.deepEqual(started.args, ["gateway", "run", "--bind", "lan", "--port", "18789"]);
  const values = Object.entries(started.env).filter(([, value]) => value.startsWith("canary"));
  assert.deepEqual(values, [["ANTHROPIC_API_KEY", "canary-key"]]);
  assert.equal(started.env["LEFT_OVER"], undefined);
  const path = join(roots.folder, "data", "openclaw.json");
  const text = await readFile(path, "utf8");
  assert.ok(!text.includes("canary"), text);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  const config = JSON.parse(text) as typeof kept & { gateway: { auth: unknown; mode: string } };
  assert.deepEqual(config.agents, kept.agents);
  assert.equal(config.gateway.controlUi.extra, 1);
  assert.equal(config.gateway.mode, "local");
  assert.deepEqual(config.gateway.auth, {
    mode: "token",
    token: { source: "file", provider: "vm", id: "/OPENCLAW_GATEWAY_TOKEN" },
  });
  assert.equal(stderr, "");
});

for (const [what, secrets, config, says] of [
  ["no token", "{}", undefined, /OPENCLAW_GATEWAY_TOKEN.*secret scope/],
  ["secrets that are no JSON", '{"KEY":"canary', undefined, /secrets\.json is not JSON/],
  [
    "settings that are no JSON",
    '{"OPENCLAW_GATEWAY_TOKEN":"canary"}',
    "{",
    /openclaw\.json is not/,
  ],
] as const) {
  test(`with ${what} the service ends as one of a wrong configuration, and says nothing secret`, async () => {
    await using roots = await TemporaryRoots.make();
    const { status, stdout, stderr } = await start(roots, secrets, config);
    assert.equal(status, 78, stderr);
    assert.match(stderr, says);
    assert.ok(!`${stdout}${stderr}`.includes("canary"));
  });
}
