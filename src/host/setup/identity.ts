import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { readFileIfAny, writeFileAtomic } from "../files.ts";
import { issueNodeCertificate, makeDevelopmentCa, readCertificate } from "../pki.ts";

const dayMs = 86_400_000;
const renewBeforeMs = 14 * dayMs;

/** The node's id, or undefined before `mvm add host`. */
export async function readNodeId(stateDir: string): Promise<string | undefined> {
  return (await readFileIfAny(join(stateDir, "node_id")))?.trim();
}

/** When the node's certificate ends, in milliseconds since 1970, or undefined when there is none. */
export async function certificateExpiry(stateDir: string): Promise<number | undefined> {
  const certificate = await readFileIfAny(join(stateDir, "certs", "node.crt"));
  const ca = await readFileIfAny(join(stateDir, "certs", "ca.crt"));
  if (certificate === undefined || ca === undefined) return undefined;
  return readCertificate(certificate, ca).expiresAtMs;
}

/** Makes node id, development CA and node certificate as far as they are missing or end soon. @returns what was made, a line each. */
export async function ensureIdentity(stateDir: string, nowMs: number): Promise<string[]> {
  const made: string[] = [];
  let nodeId = await readNodeId(stateDir);
  if (nodeId === undefined) {
    nodeId = randomUUID();
    await writeFileAtomic(join(stateDir, "node_id"), `${nodeId}\n`, 0o644);
    made.push(`node id ${nodeId}`);
  }
  const certs = join(stateDir, "certs");
  await mkdir(certs, { recursive: true, mode: 0o755 });
  const caKeyPath = join(certs, "ca.key");
  let caPem = await readFileIfAny(join(certs, "ca.crt"));
  let caKey = await readFileIfAny(caKeyPath);
  if (caPem === undefined) {
    const ca = await makeDevelopmentCa(nodeId, nowMs);
    // The key first: a certificate without its key could never issue anything.
    await writeFileAtomic(caKeyPath, ca.keyPem, 0o600);
    await writeFileAtomic(join(certs, "ca.crt"), ca.certificatePem, 0o644);
    caPem = ca.certificatePem;
    caKey = ca.keyPem;
    made.push("development CA");
  }
  const expiresAtMs = await certificateExpiry(stateDir);
  const keyPem = await readFileIfAny(join(certs, "node.key"));
  const lasts = expiresAtMs !== undefined && expiresAtMs - nowMs > renewBeforeMs;
  if ((lasts && keyPem !== undefined) || caKey === undefined) return made;
  const node = await issueNodeCertificate(nodeId, { keyPem: caKey, certificatePem: caPem }, nowMs);
  await writeFileAtomic(join(certs, "node.key"), node.keyPem, 0o600);
  await writeFileAtomic(join(certs, "node.crt"), node.certificatePem, 0o644);
  made.push("node certificate");
  return made;
}
