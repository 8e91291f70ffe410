import { X509Certificate } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod/mini";
import {
  ConflictError,
  HostLacksError,
  NotFoundError,
  NotTrustedError,
  OperationError,
  UsageError,
} from "../../domain/errors.ts";
import type {
  Authority,
  IssueRequest,
  IssuedAnswer,
  IssuedCertificate,
} from "../../ports/authority.ts";
import type { TransportIdentity } from "../../ports/transport.ts";
import { acquireFileLock } from "../file-lock.ts";
import { readFileIfAny, writeFileAtomic } from "../files.ts";
import { type KeyAndCertificate, answerRequest, issueWithNewKey, makeCa } from "../pki.ts";
import { normalSerial, readPeerCertificate } from "../quic/peer-certificate.ts";
import { makeRevocationList, readRevocationList } from "../revocation-list.ts";

const dayMs = 86_400_000;
const lockWaitMs = 30_000;
const ownDays = 90;
/** An id becomes a DNS name of the certificate (RFC 1035, 2.3.4). */
const idForm = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

const recordSchema = z.strictObject({
  schema_version: z.literal(1),
  certificates: z.array(
    z.strictObject({
      serial: z.string(),
      role: z.enum(["coordinator", "node"]),
      id: z.string(),
      issued_at: z.string(),
      expires_at: z.string(),
      revoked_at: z.nullable(z.string()),
    }),
  ),
});

/** The CA in files: `ca.key` and `ca.crt`, `issued.json`, `ca.crl`, and `coordinator.key` and `.crt`. */
export class FileAuthority implements Authority {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async init(name: string, nowMs: number): Promise<string> {
    requireId(name);
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    return this.#locked("making the CA", async () => {
      if ((await readFileIfAny(this.#path("ca.crt"))) !== undefined) {
        throw new ConflictError(`there is a CA in ${this.#folder} already`, {
          hint: "it is never overwritten: every node would have to be enrolled anew. Use it, or give another folder with MVM_COORDINATOR_DIR",
        });
      }
      const ca = await makeCa(`mvm CA of ${name}`, nowMs);
      await this.#renewOwn(ca, name, nowMs);
      await writeFileAtomic(this.#path("ca.crl"), await makeRevocationList(ca, [], nowMs), 0o644);
      // The certificate last: a CA without it was half made, and is made again.
      await writeFileAtomic(this.#path("ca.key"), ca.keyPem, 0o600);
      await writeFileAtomic(this.#path("ca.crt"), ca.certificatePem, 0o644);
      return ca.certificatePem;
    });
  }

  async issue(request: IssueRequest, lifeMs: number, nowMs: number): Promise<IssuedAnswer> {
    return this.#locked("issuing a certificate", async () => {
      const ca = await this.#ca();
      if (!("requestPem" in request)) {
        requireId(request.id);
        const made = await issueWithNewKey(request, ca, nowMs, lifeMs);
        const issued = await this.#remember(made.certificatePem, nowMs);
        return { issued, certificatePem: made.certificatePem, keyPem: made.keyPem };
      }
      const { expectedId, role } = request;
      const { certificatePem } = await answerRequest(
        request.requestPem,
        (asked) => ({ role, id: agreedId(asked, expectedId) }),
        ca,
        nowMs,
        lifeMs,
      );
      const issued = await this.#remember(certificatePem, nowMs);
      return { issued, certificatePem, keyPem: null };
    });
  }

  async issued(): Promise<readonly IssuedCertificate[]> {
    return (await this.#record()).certificates;
  }

  async revoke(what: string, nowMs: number): Promise<readonly IssuedCertificate[]> {
    return this.#locked("revoking", async () => {
      const ca = await this.#ca();
      const { certificates } = await this.#record();
      const serial = normalSerial(what);
      const isMeant = (one: IssuedCertificate): boolean => one.serial === serial || one.id === what;
      if (!certificates.some(isMeant)) {
        throw new NotFoundError(`this CA issued no certificate ${what}`, {
          hint: "give a serial number or an id of: mvm coordinator ca list",
        });
      }
      const revoked_at = new Date(nowMs).toISOString();
      const changed = certificates.map((one) =>
        isMeant(one) && one.revoked_at === null ? { ...one, revoked_at } : one,
      );
      // The record first: a list that lacks what is recorded is made anew from it the next time.
      await this.#save(changed);
      await this.#writeList(ca, changed, nowMs);
      return changed.filter((one) => one.revoked_at === revoked_at && isMeant(one));
    });
  }

  async revocations(): Promise<string> {
    const list = await readFileIfAny(this.#path("ca.crl"));
    if (list === undefined) throw this.#lacksCa();
    return list;
  }

  async identity(nowMs: number): Promise<TransportIdentity> {
    const caPem = await readFileIfAny(this.#path("ca.crt"));
    const certificatePem = await readFileIfAny(this.#path("coordinator.crt"));
    const keyPem = await readFileIfAny(this.#path("coordinator.key"));
    if (caPem === undefined || certificatePem === undefined || keyPem === undefined) {
      throw this.#lacksCa();
    }
    const { validFrom, validTo } = new X509Certificate(certificatePem);
    const halfMs = (Date.parse(validFrom) + Date.parse(validTo)) / 2;
    const caKey = await readFileIfAny(this.#path("ca.key"));
    if (nowMs > halfMs && caKey !== undefined) {
      const { id } = readPeerCertificate(new X509Certificate(certificatePem));
      await this.#locked("renewing", async () =>
        this.#renewOwn({ keyPem: caKey, certificatePem: caPem }, id, nowMs),
      );
      return this.identity(nowMs);
    }
    const list = await readFileIfAny(this.#path("ca.crl"));
    const revoked =
      list === undefined ? new Set<string>() : (await readRevocationList(list, caPem)).serials;
    return { keyPem, certificatePem, caPem, revoked };
  }

  async #renewOwn(ca: KeyAndCertificate, id: string, nowMs: number): Promise<void> {
    const made = await issueWithNewKey({ role: "coordinator", id }, ca, nowMs, ownDays * dayMs);
    await writeFileAtomic(this.#path("coordinator.key"), made.keyPem, 0o600);
    await writeFileAtomic(this.#path("coordinator.crt"), made.certificatePem, 0o644);
    await this.#remember(made.certificatePem, nowMs);
  }

  async #writeList(
    ca: KeyAndCertificate,
    certificates: readonly IssuedCertificate[],
    nowMs: number,
  ): Promise<void> {
    const revoked = certificates.flatMap(({ serial, revoked_at }) =>
      revoked_at === null ? [] : [{ serial, atMs: Date.parse(revoked_at) }],
    );
    await writeFileAtomic(
      this.#path("ca.crl"),
      await makeRevocationList(ca, revoked, nowMs),
      0o644,
    );
  }

  /** What was issued is on disk before anybody has it: one that nobody remembers could not be taken back. */
  async #remember(certificatePem: string, nowMs: number): Promise<IssuedCertificate> {
    const certificate = readPeerCertificate(new X509Certificate(certificatePem));
    const issued: IssuedCertificate = {
      serial: certificate.serial,
      role: certificate.role,
      id: certificate.id,
      issued_at: new Date(nowMs).toISOString(),
      expires_at: new Date(certificate.expiresAtMs).toISOString(),
      revoked_at: null,
    };
    await this.#save([...(await this.#record()).certificates, issued]);
    return issued;
  }

  async #save(certificates: readonly IssuedCertificate[]): Promise<void> {
    const record = { schema_version: 1, certificates };
    const text = `${JSON.stringify(record, undefined, 2)}\n`;
    await writeFileAtomic(this.#path("issued.json"), text, 0o644);
  }

  async #record(): Promise<{ readonly certificates: readonly IssuedCertificate[] }> {
    const text = await readFileIfAny(this.#path("issued.json"));
    if (text === undefined) return { certificates: [] };
    try {
      return recordSchema.parse(JSON.parse(text));
    } catch (error) {
      if (!(error instanceof SyntaxError) && !(error instanceof z.core.$ZodError)) throw error;
      throw new OperationError(`${this.#path("issued.json")} is corrupt`, {
        hint: "restore it from a backup: without it nobody knows what to revoke",
        cause: error,
      });
    }
  }

  async #ca(): Promise<KeyAndCertificate> {
    const certificatePem = await readFileIfAny(this.#path("ca.crt"));
    const keyPem = await readFileIfAny(this.#path("ca.key"));
    if (certificatePem === undefined || keyPem === undefined) throw this.#lacksCa();
    return { keyPem, certificatePem };
  }

  async #locked<T>(label: string, work: () => Promise<T>): Promise<T> {
    if ((await readFileIfAny(this.#path("ca.crt"))) === undefined) {
      // Its folder may not even be there; who makes it has made the folder first.
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    }
    const lock = await acquireFileLock(this.#path("lock"), { waitMs: lockWaitMs, label });
    try {
      return await work();
    } finally {
      await lock.release();
    }
  }

  #lacksCa(): HostLacksError {
    return new HostLacksError(`there is no CA in ${this.#folder}`, {
      hint: "mvm coordinator ca init, or give its folder with MVM_COORDINATOR_DIR",
    });
  }

  #path(name: string): string {
    return join(this.#folder, name);
  }
}

function agreedId(asked: string | undefined, expected: string | undefined): string {
  if (expected !== undefined && asked !== undefined && asked !== expected) {
    throw new NotTrustedError(`the request is of ${asked}, not of ${expected}`);
  }
  const id = expected ?? asked;
  if (id === undefined || !idForm.test(id)) {
    throw new NotTrustedError("the request names no id that a certificate can be for");
  }
  return id;
}

function requireId(id: string): void {
  if (idForm.test(id)) return;
  throw new UsageError(`"${id}" is no name for a certificate`, {
    hint: "use 1 to 63 lower-case letters, digits and hyphens",
  });
}
