// Starts OpenClaw's gateway in a guest: state on the data drive, secrets from the secrets drive.
// This process becomes OpenClaw, so that signals and the exit code are OpenClaw's own.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const stateFolder = process.env.OPENCLAW_STATE_DIR ?? "/data/openclaw";
const secretsFile = process.env.MVM_SECRETS_FILE ?? "/run/secrets/secrets.json";
const homeFolder = join(stateFolder, "home");
const temporaryFolder = join(stateFolder, "tmp");
const configFile = join(stateFolder, "openclaw.json");
const tokenName = "OPENCLAW_GATEWAY_TOKEN";

for (const folder of [stateFolder, homeFolder, temporaryFolder]) {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
}

const secrets = readJson(secretsFile, {});
if (typeof secrets[tokenName] !== "string" || secrets[tokenName] === "") {
  console.error(
    `openclaw-start: ${secretsFile} has no ${tokenName}; set it with mvm tenant secrets set`,
  );
  // What the service manager knows as an error of configuration.
  process.exit(78);
}

const config = readJson(configFile, {});
writeJson(configFile, withManagedKeys(config));

process.execve(
  process.execPath,
  [
    process.execPath,
    join(import.meta.dirname, "node_modules", "openclaw", "openclaw.mjs"),
    "gateway",
    "run",
    "--bind",
    "lan",
    "--port",
    "18789",
  ],
  {
    PATH: process.env.PATH ?? "/usr/bin:/bin",
    LANG: "C.UTF-8",
    HOME: homeFolder,
    TMPDIR: temporaryFolder,
    SSL_CERT_FILE: "/etc/ssl/certs/ca-certificates.crt",
    OPENCLAW_STATE_DIR: stateFolder,
    OPENCLAW_NO_AUTO_UPDATE: "1",
    OPENCLAW_DISABLE_BONJOUR: "1",
    OPENCLAW_NO_RESPAWN: "1",
    DO_NOT_TRACK: "1",
    ...providerKeys(),
  },
);

/** What mvm decides is set at every start; everything else in the file is the user's and is kept. */
function withManagedKeys(config) {
  const merged = {
    ...config,
    gateway: {
      ...config.gateway,
      mode: "local",
      bind: "lan",
      port: 18789,
      auth: { ...config.gateway?.auth, mode: "token", token: secretReference(tokenName) },
      controlUi: { enabled: true, ...config.gateway?.controlUi },
    },
    secrets: {
      ...config.secrets,
      providers: {
        ...config.secrets?.providers,
        vm: { source: "file", path: secretsFile, mode: "json" },
      },
    },
    update: { ...config.update, checkOnStart: false },
    models: {
      ...config.models,
      catalogRefresh: { ...config.models?.catalogRefresh, enabled: false },
    },
    telemetry: { ...config.telemetry, enabled: false },
  };
  if (typeof secrets.TELEGRAM_BOT_TOKEN === "string") {
    merged.channels = {
      ...config.channels,
      telegram: {
        enabled: true,
        ...config.channels?.telegram,
        botToken: secretReference("TELEGRAM_BOT_TOKEN"),
      },
    };
  }
  return merged;
}

/** OpenClaw reads the value itself, from the secrets drive; it is never in its configuration. */
function secretReference(name) {
  return { source: "file", provider: "vm", id: `/${name}` };
}

/** Keys of model providers and tokens of channels, which OpenClaw takes from its environment by these names. */
function providerKeys() {
  const keys = {};
  for (const [name, value] of Object.entries(secrets)) {
    const known =
      /^(?!OPENCLAW_)[A-Z][A-Z0-9_]{0,100}_(?:API_KEY|OAUTH_TOKEN|BOT_TOKEN|APP_TOKEN|SIGNING_SECRET)$/;
    if (known.test(name) && name !== "TELEGRAM_BOT_TOKEN" && typeof value === "string") {
      keys[name] = value;
    }
  }
  return keys;
}

function readJson(path, missing) {
  let text;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (error.code === "ENOENT") return missing;
    console.error(`openclaw-start: cannot read ${path}: ${error.message}`);
    process.exit(78);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    console.error(`openclaw-start: ${path} is not JSON: ${error.name}`);
    process.exit(78);
  }
}

function writeJson(path, value) {
  const temporary = `${path}.new`;
  writeFileSync(temporary, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, path);
}
