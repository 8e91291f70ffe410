import { chmod, chown, lchown, mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Roots } from "../roots.ts";
import type { StateOwner } from "../state-owner.ts";
import { ensureOwnFolder } from "../store/host-record-folders.ts";

/**
 * Agentd makes its own socket in the run folder, and the sticky bit keeps all else there as it is. Others
 * pass through: to agentd's socket, and dnsmasq to its files.
 */
const runFolderMode = 0o1771;
/** dnsmasq drops its privileges and must still reach its files. */
const passable = 0o711;

/** Whatever hostd ever makes in the run folder, before anyone else can make it there. */
const ownFolders: readonly string[] = ["i", "b", "dns", "probe"];

/** Where hostd listens. */
export function hostdSocketPath(roots: Roots): string {
  return join(roots.runDir, "hostd.sock");
}

/** Where agentd's commands listen that hold the channel to a guest; it is agentd's. */
export function agentSocketsFolder(roots: Roots): string {
  return join(roots.runDir, "c");
}

/** Makes the run folder, anew after a reboot. @throws NotTrustedError when another user made what hostd needs there. */
export async function prepareRunFolder(roots: Roots, { uid, gid }: StateOwner): Promise<void> {
  await mkdir(roots.runDir, { recursive: true, mode: 0o755 });
  // First, so that nobody makes anything there while it is looked at.
  await chown(roots.runDir, 0, 0);
  await chmod(roots.runDir, 0o755);
  for (const name of ownFolders) await ensureOwnFolder(join(roots.runDir, name));
  await chmod(join(roots.runDir, "dns"), passable);
  await mkdir(agentSocketsFolder(roots), { recursive: true, mode: 0o700 });
  await lchown(agentSocketsFolder(roots), uid, gid);
  await chown(roots.runDir, 0, gid);
  await chmod(roots.runDir, runFolderMode);
}
