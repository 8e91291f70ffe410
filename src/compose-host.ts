import { join } from "node:path";
import { type HostParts, composeContext } from "./compose-node.ts";
import { HostExec } from "./host/exec.ts";
import { LinuxHostSetup } from "./host/setup/linux-host-setup.ts";
import { vmUids } from "./host/vmm/uids.ts";
import { writeGuestInitrd } from "./image/guest-image.ts";
import type { HostSetup } from "./ports/host-setup.ts";

/** What prepares this Linux host and says what it has. */
export function composeHost(parts: HostParts): HostSetup {
  const { roots, projectDir, version } = parts;
  const { store, vmm, network, builder, locks, clock, onProgress } = composeContext(parts);
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
    onProgress,
    writeInitrd: (path) =>
      writeGuestInitrd({ payloads: join(roots.stateDir, "payloads"), project: projectDir }, path),
  });
}
