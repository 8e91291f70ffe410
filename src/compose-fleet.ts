import { join } from "node:path";
import { Fleet } from "./coordinator/fleet.ts";
import { HostLacksError } from "./domain/errors.ts";
import { FileAuthority } from "./host/fleet/file-authority.ts";
import { FileSigningKeys } from "./host/fleet/file-signing-keys.ts";
import { readFileIfAny } from "./host/files.ts";
import { issueWithNewKey } from "./host/pki.ts";
import { QuicTransport } from "./host/quic/quic-transport.ts";
import { type Roots, rootsFromEnvironment } from "./host/roots.ts";
import { FileIdentity } from "./host/setup/file-identity.ts";
import { identityPaths } from "./host/setup/identity.ts";
import { systemClock } from "./host/system-clock.ts";
import type { Authority } from "./ports/authority.ts";
import type { SigningKeys } from "./ports/signing-keys.ts";
import type { PeerRole, TransportIdentity } from "./ports/transport.ts";

type Environment = Readonly<Record<string, string | undefined>>;
const hourMs = 3_600_000;

/** The folder of a coordinator's CA, keys and identity. */
export function coordinatorFolder(env: Environment): string {
  return env["MVM_COORDINATOR_DIR"] ?? join(env["MVM_CONFIG_DIR"] ?? "/etc/mvm", "coordinator");
}

export function composeAuthority(env: Environment): Authority {
  return new FileAuthority(coordinatorFolder(env));
}

export function composeSigningKeys(env: Environment): SigningKeys {
  return new FileSigningKeys(coordinatorFolder(env));
}

/** What speaks with nodes: as the coordinator, else as the node that this machine is. */
export async function composeFleet(env: Environment, signal: AbortSignal): Promise<Fleet> {
  const { role, identity } = await ownIdentity(env);
  const nowMs = (): number => systemClock.nowMs();
  const transport = new QuicTransport({
    identity,
    nowMs,
    // Packets that a command cannot understand are dropped; it has a time limit for its answers.
    onFault: () => undefined,
  });
  return new Fleet({ transport, role, nowMs, signal });
}

/** Whom this machine can speak as. @throws HostLacksError when it has no identity at all. */
async function ownIdentity(
  env: Environment,
): Promise<{ role: PeerRole; identity: () => Promise<TransportIdentity> }> {
  const folder = coordinatorFolder(env);
  if ((await readFileIfAny(join(folder, "coordinator.crt"))) !== undefined) {
    const authority = new FileAuthority(folder);
    return { role: "coordinator", identity: () => authority.identity(systemClock.nowMs()) };
  }
  const roots = rootsFromEnvironment(env);
  const development = await developmentCoordinator(roots);
  if (development !== undefined) {
    return { role: "coordinator", identity: async () => development };
  }
  if ((await readFileIfAny(identityPaths(roots.stateDir).certificate)) === undefined) {
    throw new HostLacksError("this machine has no identity to show nodes", {
      hint: `mvm coordinator ca init, or put ca.crt, coordinator.crt and coordinator.key into ${folder}`,
    });
  }
  const own = new FileIdentity(roots, () => systemClock.nowMs());
  return { role: "node", identity: () => own.current() };
}

/** Who holds the CA can issue anything: on a development node a coordinator's certificate for this one command. */
async function developmentCoordinator(roots: Roots): Promise<TransportIdentity | undefined> {
  const paths = identityPaths(roots.stateDir);
  const keyPem = await readFileIfAny(paths.caKey);
  const caPem = await readFileIfAny(paths.caCertificate);
  if (keyPem === undefined || caPem === undefined) return undefined;
  const ca = { keyPem, certificatePem: caPem };
  const made = await issueWithNewKey(
    { role: "coordinator", id: "development" },
    ca,
    systemClock.nowMs(),
    hourMs,
  );
  return { ...made, caPem, revoked: new Set() };
}
