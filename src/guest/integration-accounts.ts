import { appendFileSync, chownSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Integration } from "../protocol/guest-config.ts";
import type { GuestPaths } from "./guest-paths.ts";

/**
 * Gives each integration that the config drive names a user of its own, who alone can read its secrets,
 * and a folder that this user owns on the data drive. Doing it twice is doing it once.
 */
export function ensureIntegrationAccounts(
  integrations: readonly Integration[],
  paths: Pick<GuestPaths, "passwd" | "group" | "integrations">,
): void {
  for (const { name, uid } of integrations) {
    const home = join(paths.integrations, name);
    addLine(paths.group, name, `${name}:x:${uid}:`);
    addLine(paths.passwd, name, `${name}:x:${uid}:${uid}:integration ${name}:${home}:/bin/false`);
    for (const folder of [home, join(home, "state")]) {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      // Only root can give a folder away; in tests the agent is not always root.
      if (process.getuid?.() === 0) chownSync(folder, uid, uid);
    }
  }
}

/** Adds an account to a file of the form of passwd(5) or group(5) unless its name is there. */
function addLine(path: string, name: string, line: string): void {
  const text = readFileSync(path, "utf8");
  if (text.split("\n").some((other) => other.startsWith(`${name}:`))) return;
  appendFileSync(path, `${text === "" || text.endsWith("\n") ? "" : "\n"}${line}\n`);
}
