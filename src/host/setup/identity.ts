import { randomUUID } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { ConflictError, NotTrustedError } from "../../domain/errors.ts";
import { readFileIfAny, writeFileAtomic } from "../files.ts";
import {
  authorityProblem,
  certificateFingerprint,
  isKeyOf,
  issueNodeCertificate,
  makeDevelopmentCa,
  readCertificate,
  requestNodeCertificate,
} from "../pki.ts";

const dayMs = 86_400_000;
const renewBeforeMs = 14 * dayMs;

/** The files of a node's identity. */
export interface IdentityPaths {
  readonly nodeId: string;
  readonly folder: string;
  readonly caCertificate: string;
  /** There only where the CA is this node's own, for development. */
  readonly caKey: string;
  readonly certificate: string;
  readonly key: string;
  /** What a CA elsewhere is to answer with a certificate. */
  readonly request: string;
}

export function identityPaths(stateDir: string): IdentityPaths {
  const folder = join(stateDir, "certs");
  return {
    nodeId: join(stateDir, "node_id"),
    folder,
    caCertificate: join(folder, "ca.crt"),
    caKey: join(folder, "ca.key"),
    certificate: join(folder, "node.crt"),
    key: join(folder, "node.key"),
    request: join(folder, "node.csr"),
  };
}

/** The node's id, or undefined before `mvm add host`. */
export async function readNodeId(stateDir: string): Promise<string | undefined> {
  return (await readFileIfAny(identityPaths(stateDir).nodeId))?.trim();
}

/** When the node's certificate ends, in milliseconds since 1970, or undefined when there is none. */
export async function certificateExpiry(stateDir: string): Promise<number | undefined> {
  const paths = identityPaths(stateDir);
  const certificate = await readFileIfAny(paths.certificate);
  const ca = await readFileIfAny(paths.caCertificate);
  if (certificate === undefined || ca === undefined) return undefined;
  return readCertificate(certificate, ca).expiresAtMs;
}

/** Whose CA this node belongs to: its own of development, one elsewhere, or none yet. */
export async function readAuthority(
  stateDir: string,
): Promise<"none" | "development" | "external"> {
  const paths = identityPaths(stateDir);
  if ((await readFileIfAny(paths.caCertificate)) === undefined) return "none";
  return (await readFileIfAny(paths.caKey)) === undefined ? "external" : "development";
}

/**
 * Checks that a CA's certificate may become this node's, with nothing changed.
 * @throws NotTrustedError when it is none, or not valid now; ConflictError when this node belongs to
 * another CA.
 */
export async function checkAuthority(
  stateDir: string,
  caPem: string,
  nowMs: number,
): Promise<void> {
  const problem = authorityProblem(caPem, nowMs);
  if (problem !== undefined) {
    throw new NotTrustedError(`the CA certificate cannot be used: ${problem}`, {
      hint: "give the CA's own certificate in PEM form, as the coordinator's `ca.crt`",
    });
  }
  const { caCertificate, folder } = identityPaths(stateDir);
  const present = await readFileIfAny(caCertificate);
  if (present === undefined || isSameCertificate(present, caPem)) return;
  throw new ConflictError(`this node has an identity of another CA in ${folder}`, {
    hint: `it is never overwritten; to give it up, move it away: mv ${folder} ${folder}.old`,
  });
}

/**
 * Makes what is missing of the node's identity, or ends soon: the id; and with the CA of this node alone
 * a certificate of it, or with a CA elsewhere a key and a request for it. What is there is never
 * overwritten. Each file is whole or not there, and they are made in an order that lets the next run go on.
 * @param caPem a CA elsewhere that `checkAuthority` found good; undefined for what this node has, else a
 * development CA. @returns what was made, a line each.
 */
export async function ensureIdentity(
  stateDir: string,
  nowMs: number,
  caPem?: string,
): Promise<string[]> {
  const paths = identityPaths(stateDir);
  const made: string[] = [];
  let nodeId = await readNodeId(stateDir);
  if (nodeId === undefined) {
    nodeId = randomUUID();
    await writeFileAtomic(paths.nodeId, `${nodeId}\n`, 0o644);
    made.push(`node id ${nodeId}`);
  }
  await mkdir(paths.folder, { recursive: true, mode: 0o755 });
  if (caPem !== undefined && (await readAuthority(stateDir)) === "none") {
    // A development CA that was half made: beside another's certificate it would be taken for its key.
    await rm(paths.caKey, { force: true });
    await writeFileAtomic(paths.caCertificate, caPem, 0o644);
    made.push("CA certificate");
  }
  const issued =
    (await readAuthority(stateDir)) === "external"
      ? await ensureRequest(paths, nodeId)
      : await ensureOwnCertificate(paths, nodeId, nowMs);
  return [...made, ...issued];
}

async function ensureRequest(paths: IdentityPaths, nodeId: string): Promise<string[]> {
  const keyPem = await readFileIfAny(paths.key);
  const request = await readFileIfAny(paths.request);
  if (keyPem !== undefined && request !== undefined) return [];
  const made = await requestNodeCertificate(nodeId, keyPem);
  if (keyPem === undefined) await writeFileAtomic(paths.key, made.keyPem, 0o600);
  await writeFileAtomic(paths.request, made.requestPem, 0o644);
  return [
    ...(keyPem === undefined ? ["node key"] : []),
    `signing request ${paths.request}, for the CA to answer`,
  ];
}

async function ensureOwnCertificate(
  paths: IdentityPaths,
  nodeId: string,
  nowMs: number,
): Promise<string[]> {
  const made: string[] = [];
  let caPem = await readFileIfAny(paths.caCertificate);
  let caKey = await readFileIfAny(paths.caKey);
  if (caPem === undefined || caKey === undefined) {
    const ca = await makeDevelopmentCa(nodeId, nowMs);
    // The key first: a certificate without its key could never issue anything.
    await writeFileAtomic(paths.caKey, ca.keyPem, 0o600);
    await writeFileAtomic(paths.caCertificate, ca.certificatePem, 0o644);
    caPem = ca.certificatePem;
    caKey = ca.keyPem;
    made.push("development CA");
  }
  if (await isCertified(paths, caPem, nowMs)) return made;
  const node = await issueNodeCertificate(nodeId, { keyPem: caKey, certificatePem: caPem }, nowMs);
  await writeFileAtomic(paths.key, node.keyPem, 0o600);
  await writeFileAtomic(paths.certificate, node.certificatePem, 0o644);
  made.push("node certificate");
  return made;
}

/** Whether key and certificate are there, belong together and to this CA, and last a while. */
async function isCertified(paths: IdentityPaths, caPem: string, nowMs: number): Promise<boolean> {
  const certificate = await readFileIfAny(paths.certificate);
  const key = await readFileIfAny(paths.key);
  if (certificate === undefined || key === undefined) return false;
  const { expiresAtMs, signedByCa } = readCertificate(certificate, caPem);
  // A run that died between the two left a key that is of no certificate.
  return signedByCa && isKeyOf(key, certificate) && expiresAtMs - nowMs > renewBeforeMs;
}

function isSameCertificate(onePem: string, otherPem: string): boolean {
  return certificateFingerprint(onePem) === certificateFingerprint(otherPem);
}
