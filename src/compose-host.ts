import { join } from "node:path";
import { type HostParts, composeContext, composeThroughHostd } from "./compose-node.ts";
import { HostExec } from "./host/exec.ts";
import { noAttestation } from "./host/attestation.ts";
import { isSystemdBooted } from "./host/own-scope.ts";
import { type Roots, rootsFromEnvironment } from "./host/roots.ts";
import { handOver } from "./host/setup/hand-over.ts";
import { LinuxHostSetup } from "./host/setup/linux-host-setup.ts";
import { LocalInventory } from "./host/setup/local-inventory.ts";
import { splitPrivileges } from "./host/setup/privilege-split.ts";
import { stateOwner } from "./host/state-owner.ts";
import { vmUids } from "./host/vmm/uids.ts";
import { writeGuestInitrd } from "./image/guest-image.ts";
import type { HostSetup } from "./ports/host-setup.ts";

/** What prepares this Linux host and says what it has. */
export async function composeHost(parts: HostParts, hostdSocket?: string): Promise<HostSetup> {
  const { roots, projectDir, version } = parts;
  const context =
    hostdSocket === undefined
      ? composeContext(parts)
      : await composeThroughHostd(parts, hostdSocket);
  const { store, vmm, network, builder, locks, clock, production, onProgress } = context;
  return new LinuxHostSetup({
    roots,
    store,
    vmm,
    network,
    builder,
    exec: new HostExec(),
    locks,
    projectDir,
    version,
    builderUid: vmUids.builder,
    clock,
    production,
    onProgress,
    inventory:
      hostdSocket === undefined
        ? new LocalInventory(roots, vmm)
        : (await import("./compose-remote.ts")).remoteInventory(hostdSocket),
    attestation: noAttestation,
    partPrivileges: () => partPrivileges(parts),
    writeInitrd: (path) =>
      writeGuestInitrd({ payloads: join(roots.stateDir, "payloads"), project: projectDir }, path),
  });
}

/** Only the node of a machine itself is run by its service manager: others have roots of their own, and what is agentd's already stays so. */
async function partPrivileges({ roots, projectDir }: HostParts): Promise<string[]> {
  if (isSystemdBooted() && isUsual(roots)) {
    return splitPrivileges({ exec: new HostExec(), roots, projectDir });
  }
  const owner = stateOwner(roots);
  if (owner === undefined) return [];
  const changed = await handOver(roots, owner);
  return changed === 0 ? [] : [`handed over: ${changed} files and folders to user ${owner.uid}`];
}

function isUsual(roots: Roots): boolean {
  const usual = rootsFromEnvironment({});
  return roots.stateDir === usual.stateDir && roots.runDir === usual.runDir;
}
