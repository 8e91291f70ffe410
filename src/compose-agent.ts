import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { composeHost } from "./compose-host.ts";
import { type HostParts, composeContext, composeThroughHostd } from "./compose-node.ts";
import { HostExec } from "./host/exec.ts";
import { MetricsServer } from "./host/metrics-server.ts";
import { QuicTransport } from "./host/quic/quic-transport.ts";
import { FileIdentity } from "./host/setup/file-identity.ts";
import { SystemdManager } from "./host/systemd-manager.ts";
import { UnixListener } from "./host/transport/unix-transport.ts";
import { type AgentServeOptions, serveAgent } from "./node/agent/agent.ts";
import { Certificates } from "./node/agent/certificates.ts";
import { NodeOperations } from "./node/operations.ts";
import type { Roots } from "./host/roots.ts";

/** What is done to this node's identity. */
export function composeCertificates(parts: HostParts): Certificates {
  const context = composeContext(parts);
  const identity = new FileIdentity(parts.roots, () => context.clock.nowMs());
  return new Certificates(context, identity);
}

/** The socket of a node's daemon. */
export function agentSocketPath(roots: Roots): string {
  return join(roots.runDir, "agent.sock");
}

/** The node's daemon, until the signal of the parts. */
export async function composeAgent(parts: HostParts, options: AgentServeOptions): Promise<void> {
  const { roots, out, version, signal } = parts;
  // The engine is not interrupted when the daemon is told to end: what runs goes on to its end.
  const engine = { ...parts, signal: new AbortController().signal, servesNetwork: true };
  const { hostdSocket } = options;
  const context =
    hostdSocket === undefined
      ? composeContext(engine)
      : await composeThroughHostd(engine, hostdSocket);
  const identity = new FileIdentity(roots, () => context.clock.nowMs());
  const transport = new QuicTransport({
    identity: () => identity.current(),
    nowMs: () => context.clock.nowMs(),
    onFault: (error) => out.note(`a packet was dropped: ${String(error)}`),
  });
  const host = await composeHost(engine, hostdSocket);
  await mkdir(roots.runDir, { recursive: true, mode: 0o755 });
  await serveAgent(
    {
      context,
      node: new NodeOperations(context),
      identity,
      certificates: new Certificates(context, identity),
      info: () => host.info(),
      version,
      manager: new SystemdManager(new HostExec(), process.env, (line) => out.note(line)),
      listenLocal: (service) => UnixListener.start(agentSocketPath(roots), service),
      listenFleet: (address, service) => transport.listen(address, service),
      metrics: new MetricsServer((error) => out.note(`metrics: a defect: ${String(error)}`)),
      ownUse: () => ({
        residentBytes: process.memoryUsage.rss(),
        cpuSeconds: process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6,
      }),
      note: (line) => out.progress(line),
      stop: signal,
    },
    options,
  );
}
