import { realpathSync } from "node:fs";
import { basename, dirname, isAbsolute, join, normalize } from "node:path";
import type { InstanceAddress, PoolAddress, TenantId } from "../domain/ids.ts";
import { UsageError } from "../domain/errors.ts";
import { isErrno } from "./files.ts";

/** The three folders a node lives in. Several nodes on one machine have their own. */
export interface Roots {
  readonly stateDir: string;
  readonly configDir: string;
  readonly runDir: string;
}

// Below the run folder `/i/<i-xxxxxxxx>/agent.sock` follows, and a socket path has at most 107 bytes.
const maxRunDirBytes = 80;

/**
 * The roots from MVM_STATE_DIR, MVM_CONFIG_DIR and MVM_RUN_DIR, else the usual places. The run folder
 * is named as the kernel names it, without links: mounts below it are found again by name.
 * @throws UsageError
 */
export function rootsFromEnvironment(env: Readonly<Record<string, string | undefined>>): Roots {
  const given = {
    stateDir: env["MVM_STATE_DIR"] ?? "/var/lib/mvm",
    configDir: env["MVM_CONFIG_DIR"] ?? "/etc/mvm",
    runDir: env["MVM_RUN_DIR"] ?? "/run/mvm",
  };
  for (const path of Object.values(given)) {
    if (!isAbsolute(path)) throw new UsageError(`${path} is not an absolute path`);
  }
  const roots = { ...given, runDir: withoutLinks(given.runDir) };
  if (Buffer.byteLength(roots.runDir) > maxRunDirBytes) {
    throw new UsageError(`MVM_RUN_DIR is longer than ${maxRunDirBytes} bytes: ${roots.runDir}`, {
      hint: "sockets are made below it, and the kernel limits the length of their paths",
    });
  }
  return roots;
}

/** The real path of what there is of a path, and then the rest of it. */
function withoutLinks(path: string): string {
  const plain = normalize(path);
  try {
    return realpathSync(plain);
  } catch (error) {
    if (!isErrno(error, "ENOENT") || plain === dirname(plain)) throw error;
    return join(withoutLinks(dirname(plain)), basename(plain));
  }
}

export function tenantsFolder(roots: Roots): string {
  return join(roots.stateDir, "tenants");
}

export function tenantFolder(roots: Roots, tenant: TenantId): string {
  return join(tenantsFolder(roots), tenant);
}

export function poolFolder(roots: Roots, address: PoolAddress): string {
  return join(tenantFolder(roots, address.tenant), "pools", address.pool);
}

export function instanceFolder(roots: Roots, address: InstanceAddress): string {
  return join(poolFolder(roots, address), "instances", address.instance);
}

/** The name of a data disk in its instance's `volumes` folder. */
export const dataDiskName = "data.ext4";

/** Where the drives of an instance lie that outlive its VMM. */
export function instanceVolumes(roots: Roots, address: InstanceAddress): string {
  return join(instanceFolder(roots, address), "volumes");
}

export function dataDiskPath(roots: Roots, address: InstanceAddress): string {
  return join(instanceVolumes(roots, address), dataDiskName);
}

/** Where the logs of an instance's VMM and console lie. */
export function instanceLogFolder(roots: Roots, address: InstanceAddress): string {
  return join(instanceFolder(roots, address), "logs");
}

export function imagesFolder(roots: Roots): string {
  return join(roots.stateDir, "images");
}

/** Where the audit log of the node itself lies. */
export function nodeAuditFolder(roots: Roots): string {
  return join(roots.stateDir, "audit");
}

/** What the daemon keeps for itself: the document in force, and room on the disk. */
export function agentFolder(roots: Roots): string {
  return join(roots.stateDir, "agent");
}

/** Where the encryption keys of tenants lie. */
export function keysFolder(roots: Roots): string {
  return join(roots.stateDir, "keys");
}

/** Where the run folders of all instances lie. */
export function instanceRunRoot(roots: Roots): string {
  return join(roots.runDir, "i");
}
