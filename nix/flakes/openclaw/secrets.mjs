// The secrets of this guest, and which setting of OpenClaw each becomes. docs/secrets.md has the table.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Secrets that become a setting: OpenClaw reads the value itself, from the drive, by a reference to it. */
const settings = [
  { name: "OPENCLAW_GATEWAY_TOKEN", path: ["gateway", "auth", "token"], always: true },
  { name: "TELEGRAM_BOT_TOKEN", path: ["channels", "telegram", "botToken"], always: true },
  // Their plugins are no part of the package: OpenClaw would look for a missing one on the network.
  { name: "TELEGRAM_WEBHOOK_SECRET", path: ["channels", "telegram", "webhookSecret"] },
  { name: "SLACK_BOT_TOKEN", path: ["channels", "slack", "botToken"] },
  { name: "SLACK_APP_TOKEN", path: ["channels", "slack", "appToken"] },
  { name: "SLACK_SIGNING_SECRET", path: ["channels", "slack", "signingSecret"] },
  { name: "DISCORD_BOT_TOKEN", path: ["channels", "discord", "token"] },
];

/** Keys of model providers, which OpenClaw takes from its environment by these names. */
const environmentNames = /^(?!OPENCLAW_)[A-Z][A-Z0-9_]{0,100}_(?:API_KEY|OAUTH_TOKEN)$/;

/**
 * The secrets below a folder: `secrets.json` there, or one in the folder of each integration, as far as
 * this user may read it. The first file that has a name counts.
 */
export function readSecrets(folder) {
  const files = [{ provider: "vm", path: join(folder, "secrets.json") }];
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (!entry.isDirectory() || !/^[a-z][a-z0-9-]*$/.test(entry.name)) continue;
    files.push({
      provider: `vm-${entry.name}`,
      path: join(folder, entry.name, "secrets.json"),
    });
  }
  const found = files.flatMap(({ provider, path }) => {
    const values = readValues(path);
    return values === undefined ? [] : [{ provider, path, values }];
  });
  return {
    /** The files, as OpenClaw's `secrets.providers` names them. */
    providers: Object.fromEntries(
      found.map(({ provider, path }) => [provider, { source: "file", path, mode: "json" }]),
    ),
    /** By name: the value, and the reference by which OpenClaw finds it. */
    byName: new Map(
      found
        .toReversed()
        .flatMap(({ provider, values }) =>
          Object.entries(values).map(([name, value]) => [
            name,
            { value, reference: { source: "file", provider, id: `/${name}` } },
          ]),
        ),
    ),
  };
}

/**
 * OpenClaw's settings with references to the secrets that there are, and without those to secrets that
 * are there no more. What a setting needs beside it is the user's.
 */
export function withSecrets(config, secrets) {
  const others = Object.entries(config.secrets?.providers ?? {}).filter(([name]) => !isOurs(name));
  const merged = {
    ...config,
    secrets: {
      ...config.secrets,
      providers: { ...Object.fromEntries(others), ...secrets.providers },
    },
  };
  for (const { name, path, always } of settings) {
    const [area, section, key] = path;
    const present = merged[area]?.[section];
    const reference = secrets.byName.get(name)?.reference;
    if (reference === undefined && !isOurs(present?.[key]?.provider)) continue;
    if (present === undefined && always !== true) continue;
    const { [key]: _old, ...rest } = present ?? {};
    merged[area] = {
      ...merged[area],
      [section]: {
        ...(area === "channels" && always === true ? { enabled: true } : {}),
        ...rest,
        ...(reference === undefined ? {} : { [key]: reference }),
        // It was enabled for its token, and is of no use without.
        ...(area === "channels" && reference === undefined ? { enabled: false } : {}),
      },
    };
  }
  return merged;
}

function isOurs(provider) {
  return provider === "vm" || String(provider).startsWith("vm-");
}

/** The variables of OpenClaw's own environment that are secrets. */
export function secretEnvironment(secrets) {
  return Object.fromEntries(
    [...secrets.byName]
      .filter(([name]) => environmentNames.test(name))
      .map(([name, { value }]) => [name, value]),
  );
}

/** The strings of a flat JSON object; undefined when the file is not there or is another user's. */
function readValues(path) {
  let text;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (error.code === "ENOENT" || error.code === "EACCES") return undefined;
    throw error;
  }
  let parsed;
  try {
    parsed = JSON.parse(text);
  } catch {
    // Its message would quote the text, and that is secret.
    throw new Error(`${path} is not JSON`);
  }
  return Object.fromEntries(
    Object.entries(parsed).filter(([, value]) => typeof value === "string" && value !== ""),
  );
}
