// Starts OpenClaw's gateway in a guest: state on the data drive, secrets from the secrets drive.
// This process becomes OpenClaw, so that signals and the exit code are OpenClaw's own.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readSecrets, secretEnvironment, withSecrets } from "./secrets.mjs";

const stateFolder = process.env.OPENCLAW_STATE_DIR ?? "/data/openclaw";
const secretsFolder = process.env.MVM_SECRETS_DIR ?? "/run/secrets";
const homeFolder = join(stateFolder, "home");
const temporaryFolder = join(stateFolder, "tmp");
const configFile = join(stateFolder, "openclaw.json");
const tokenName = "OPENCLAW_GATEWAY_TOKEN";
/** What the service manager knows as an error of configuration (sysexits EX_CONFIG). */
const configurationError = 78;

for (const folder of [stateFolder, homeFolder, temporaryFolder]) {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
}

const secrets = orConfigurationError(() => readSecrets(secretsFolder));
if (!secrets.byName.has(tokenName)) {
  console.error(
    `openclaw-start: no secrets that this user may read below ${secretsFolder} have ${tokenName}; set it with mvm tenant secrets set, or name it in a secret scope of the integration "worker"`,
  );
  process.exit(configurationError);
}

const config = orConfigurationError(() => readConfig(configFile));
writeJson(configFile, withSecrets(withManagedKeys(config), secrets));

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
    ...secretEnvironment(secrets),
  },
);

/** What mvm decides is set at every start; everything else in the file is the user's and is kept. */
function withManagedKeys(config) {
  return {
    ...config,
    gateway: {
      ...config.gateway,
      mode: "local",
      bind: "lan",
      port: 18789,
      auth: { ...config.gateway?.auth, mode: "token" },
      controlUi: { enabled: true, ...config.gateway?.controlUi },
    },
    update: { ...config.update, checkOnStart: false },
    models: {
      ...config.models,
      catalogRefresh: { ...config.models?.catalogRefresh, enabled: false },
    },
    telemetry: { ...config.telemetry, enabled: false },
  };
}

function readConfig(path) {
  let text;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (error.code === "ENOENT") return {};
    throw error;
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${path} is not JSON`);
  }
}

/** What cannot be read ends the service as an error of configuration, which the service manager knows. */
function orConfigurationError(read) {
  try {
    return read();
  } catch (error) {
    console.error(`openclaw-start: ${error.message}`);
    process.exit(configurationError);
  }
}

function writeJson(path, value) {
  const temporary = `${path}.new`;
  writeFileSync(temporary, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, path);
}
