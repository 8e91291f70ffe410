import { type HostParts, composeContext } from "./compose-node.ts";
import { FileIdentity } from "./host/setup/file-identity.ts";
import { Certificates } from "./node/agent/certificates.ts";

/** What is done to this node's identity. */
export function composeCertificates(parts: HostParts): Certificates {
  const context = composeContext(parts);
  const identity = new FileIdentity(parts.roots.stateDir, () => context.clock.nowMs());
  return new Certificates(context, identity);
}
