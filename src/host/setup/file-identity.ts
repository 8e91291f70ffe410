import { X509Certificate } from "node:crypto";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { ConflictError, HostLacksError, NotTrustedError, UsageError } from "../../domain/errors.ts";
import type { IdentityStatus, InstalledIdentity, NodeIdentity } from "../../ports/node-identity.ts";
import type { TransportIdentity } from "../../ports/transport.ts";
import { readFileIfAny, writeFileAtomic } from "../files.ts";
import { isKeyOf, issueNodeCertificate, requestNodeCertificate } from "../pki.ts";
import type { Roots } from "../roots.ts";
import { recordOwner } from "../state-owner.ts";
import { readPeerCertificate } from "../quic/peer-certificate.ts";
import { readRevocationList } from "../revocation-list.ts";
import {
  checkAuthority,
  ensureIdentity,
  identityPaths,
  readAuthority,
  readNodeId,
} from "./identity.ts";

/** The node's identity in the files of its state folder. Callers that change it hold the node's lock. */
export class FileIdentity implements NodeIdentity {
  readonly #stateDir: string;
  readonly #roots: Roots;
  readonly #nowMs: () => number;

  constructor(roots: Roots, nowMs: () => number) {
    this.#stateDir = roots.stateDir;
    this.#roots = roots;
    this.#nowMs = nowMs;
  }

  async current(): Promise<TransportIdentity> {
    const { certificate, caCertificate, revocations } = this.#paths();
    const certificatePem = await readFileIfAny(certificate);
    const caPem = await readFileIfAny(caCertificate);
    const keyPem =
      certificatePem === undefined ? undefined : await this.#settledKey(certificatePem);
    if (certificatePem === undefined || caPem === undefined || keyPem === undefined) {
      const waits = (await readAuthority(this.#stateDir)) === "external";
      throw new HostLacksError("this node has no certificate yet", {
        hint: waits
          ? "have its request answered: mvm agent certs request; then mvm agent certs install"
          : "mvm add host, or mvm agent certs init",
      });
    }
    const list = await readFileIfAny(revocations);
    const revoked =
      list === undefined ? new Set<string>() : (await readRevocationList(list, caPem)).serials;
    return { keyPem, certificatePem, caPem, revoked };
  }

  async status(): Promise<IdentityStatus> {
    const nodeId = await this.#nodeId();
    const { certificate, caCertificate, nextKey, request, revocations } = this.#paths();
    const pem = await readFileIfAny(certificate);
    const ca = await readFileIfAny(caCertificate);
    const list = await readFileIfAny(revocations);
    const revoked =
      list === undefined || ca === undefined
        ? 0
        : (await readRevocationList(list, ca)).serials.size;
    const requested =
      (await readFileIfAny(nextKey)) !== undefined ||
      (pem === undefined && (await readFileIfAny(request)) !== undefined);
    return {
      node_id: nodeId,
      authority: await readAuthority(this.#stateDir),
      certificate: pem === undefined ? null : describe(pem, this.#nowMs()),
      requested,
      revoked,
    };
  }

  async init(caPem?: string): Promise<string[]> {
    if (caPem !== undefined) await checkAuthority(this.#stateDir, caPem, this.#nowMs());
    await mkdir(this.#stateDir, { recursive: true, mode: 0o755 });
    return ensureIdentity(this.#stateDir, this.#nowMs(), caPem);
  }

  async request(): Promise<string> {
    const { nextKey, key, request, certificate } = this.#paths();
    const nodeId = await this.#nodeId();
    if ((await readAuthority(this.#stateDir)) === "none") {
      throw new HostLacksError("this node belongs to no CA yet", {
        hint: "mvm add host --ca ca.crt, or for development: mvm agent certs init",
      });
    }
    // A node that never had a certificate has no other key to protect: its first one is the next.
    const target = (await readFileIfAny(certificate)) === undefined ? key : nextKey;
    const made = await requestNodeCertificate(nodeId, await readFileIfAny(target));
    await this.#write(target, made.keyPem, 0o600);
    await this.#write(request, made.requestPem, 0o644);
    return made.requestPem;
  }

  async install(parts: {
    readonly certificate?: string | undefined;
    readonly revocations?: string | undefined;
  }): Promise<InstalledIdentity> {
    if (parts.certificate === undefined && parts.revocations === undefined) {
      throw new UsageError("there is neither a certificate nor a revocation list to install");
    }
    const caPem = await readFileIfAny(this.#paths().caCertificate);
    if (caPem === undefined) {
      throw new HostLacksError("this node belongs to no CA yet", {
        hint: "mvm add host --ca ca.crt",
      });
    }
    // Both are judged before either is written.
    const serials =
      parts.revocations === undefined
        ? undefined
        : await this.#judgeRevocations(parts.revocations, caPem);
    const certificate =
      parts.certificate === undefined
        ? undefined
        : await this.#judgeCertificate(parts.certificate, caPem, serials);
    if (parts.revocations !== undefined) {
      await this.#write(this.#paths().revocations, parts.revocations, 0o644);
    }
    if (certificate !== undefined) await this.#put(certificate.pem);
    const known = serials ?? (await this.#revoked(caPem));
    return {
      serial: certificate?.serial ?? null,
      expires_at: certificate?.expiresAt ?? null,
      revoked: known.size,
    };
  }

  async rotate(): Promise<InstalledIdentity> {
    const { caCertificate, caKey, nextKey } = this.#paths();
    const nodeId = await this.#nodeId();
    const caPem = await readFileIfAny(caCertificate);
    const keyPem = await readFileIfAny(caKey);
    if (caPem === undefined || keyPem === undefined) {
      throw new ConflictError("the CA of this node is elsewhere: it alone issues a certificate", {
        hint: "mvm agent certs request, and have the coordinator answer it",
      });
    }
    const ca = { keyPem, certificatePem: caPem };
    const made = await issueNodeCertificate(nodeId, ca, this.#nowMs());
    await this.#write(nextKey, made.keyPem, 0o600);
    await this.#put(made.certificatePem);
    const { serial, expiresAtMs } = readPeerCertificate(new X509Certificate(made.certificatePem));
    const expires_at = new Date(expiresAtMs).toISOString();
    return { serial, expires_at, revoked: (await this.#revoked(caPem)).size };
  }

  /**
   * The certificate first and then the key's name: whoever dies between the two leaves a certificate whose
   * key lies under its other name, where `#keyOf` finds it.
   */
  async #put(certificatePem: string): Promise<void> {
    const { certificate, key, nextKey, request } = this.#paths();
    const next = await readFileIfAny(nextKey);
    await this.#write(certificate, certificatePem, 0o644);
    if (next !== undefined && isKeyOf(next, certificatePem)) await rename(nextKey, key);
    await rm(request, { force: true });
  }

  async #judgeCertificate(
    pem: string,
    caPem: string,
    revoked: ReadonlySet<string> | undefined,
  ): Promise<{ pem: string; serial: string; expiresAt: string }> {
    const nodeId = await this.#nodeId();
    const certificate = parseCertificate(pem);
    const ca = new X509Certificate(caPem);
    if (!certificate.checkIssued(ca) || !certificate.verify(ca.publicKey)) {
      throw new NotTrustedError("the certificate is not of this node's CA", {
        hint: "have the CA that this node was added with answer the request",
      });
    }
    const { role, id, serial, expiresAtMs } = readPeerCertificate(certificate);
    if (role !== "node" || id !== nodeId) {
      throw new NotTrustedError(`the certificate is for ${role} ${id}, and this is node ${nodeId}`);
    }
    const nowMs = this.#nowMs();
    if (expiresAtMs <= nowMs) throw new NotTrustedError("the certificate has ended already");
    if (Date.parse(certificate.validFrom) > nowMs) {
      throw new NotTrustedError(`the certificate begins on ${certificate.validFrom}`, {
        hint: "compare the clocks of the CA and this node",
      });
    }
    const known = revoked ?? (await this.#revoked(caPem));
    if (known.has(serial)) throw new NotTrustedError("the certificate was revoked");
    if ((await this.#keyOf(pem)) === undefined) {
      throw new NotTrustedError(
        "the certificate is for another key than the one that was asked for",
        {
          hint: "have the newest request answered: mvm agent certs request",
        },
      );
    }
    return { pem, serial, expiresAt: new Date(expiresAtMs).toISOString() };
  }

  /** A list never gets older: one that was replayed would give a stolen certificate back. */
  async #judgeRevocations(pem: string, caPem: string): Promise<ReadonlySet<string>> {
    const list = await readRevocationList(pem, caPem);
    const presentPem = await readFileIfAny(this.#paths().revocations);
    const present =
      presentPem === undefined ? undefined : await readRevocationList(presentPem, caPem);
    if (present !== undefined && list.madeAtMs < present.madeAtMs) {
      throw new NotTrustedError("the revocation list is older than the one this node has");
    }
    return list.serials;
  }

  async #revoked(caPem: string): Promise<ReadonlySet<string>> {
    const pem = await readFileIfAny(this.#paths().revocations);
    return pem === undefined ? new Set() : (await readRevocationList(pem, caPem)).serials;
  }

  /** The key that a certificate was made for, under whichever name it lies. */
  async #keyOf(certificatePem: string): Promise<string | undefined> {
    const { key, nextKey } = this.#paths();
    for (const path of [key, nextKey]) {
      const pem = await readFileIfAny(path);
      if (pem !== undefined && isReadableKeyOf(pem, certificatePem)) return pem;
    }
    return undefined;
  }

  /** As `#keyOf`, and ends an installation that died before it gave the key its name. */
  async #settledKey(certificatePem: string): Promise<string | undefined> {
    const { key, nextKey } = this.#paths();
    const found = await this.#keyOf(certificatePem);
    if (found !== undefined && (await readFileIfAny(nextKey)) === found) await rename(nextKey, key);
    return found;
  }

  /** A command of root's writes for the daemon's user, where that is another. */
  async #write(path: string, content: string, mode: number): Promise<void> {
    await writeFileAtomic(path, content, mode, recordOwner(this.#roots));
  }

  async #nodeId(): Promise<string> {
    const nodeId = await readNodeId(this.#stateDir);
    if (nodeId === undefined) {
      throw new HostLacksError("this machine is no node yet", { hint: "mvm add host" });
    }
    return nodeId;
  }

  #paths(): ReturnType<typeof identityPaths> & { nextKey: string; revocations: string } {
    const paths = identityPaths(this.#stateDir);
    return {
      ...paths,
      nextKey: join(paths.folder, "next.key"),
      revocations: join(paths.folder, "ca.crl"),
    };
  }
}

function parseCertificate(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    // OpenSSL says what it could not read, in codes that differ from one version to the next.
    if (!(error instanceof Error)) throw error;
    throw new NotTrustedError("this is no certificate in PEM form", { cause: error });
  }
}

/** A key file that is damaged is nobody's key. */
function isReadableKeyOf(keyPem: string, certificatePem: string): boolean {
  try {
    return isKeyOf(keyPem, certificatePem);
  } catch (error) {
    // As of a certificate, OpenSSL says what it could not read in codes that differ.
    if (!(error instanceof Error)) throw error;
    return false;
  }
}

function describe(pem: string, nowMs: number): NonNullable<IdentityStatus["certificate"]> {
  const certificate = parseCertificate(pem);
  const { serial, expiresAtMs } = readPeerCertificate(certificate);
  const beginMs = Date.parse(certificate.validFrom);
  return {
    serial,
    not_before: new Date(beginMs).toISOString(),
    expires_at: new Date(expiresAtMs).toISOString(),
    expired: expiresAtMs <= nowMs,
    renew_at: new Date(beginMs + (expiresAtMs - beginMs) / 2).toISOString(),
  };
}
