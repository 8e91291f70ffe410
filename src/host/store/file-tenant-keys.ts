import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, rm } from "node:fs/promises";
import { constants } from "node:fs";
import { join } from "node:path";
import { OperationError } from "../../domain/errors.ts";
import type { TenantId } from "../../domain/ids.ts";
import type { TenantKeyStatus, TenantKeys } from "../../ports/tenant-keys.ts";
import { isErrno, removeHalfWrittenOf, syncFolder, writeFileAtomic } from "../files.ts";
import { type Roots, keysFolder } from "../roots.ts";

const keyBytes = 32;
const keyMode = 0o600;
const fingerprintDigits = 16;

/** Keeps each tenant's key in `keys/<tenant>.key`: 32 bytes, 0600. */
export class FileTenantKeys implements TenantKeys {
  readonly #folder: string;

  constructor(roots: Roots) {
    this.#folder = keysFolder(roots);
  }

  async status(tenant: TenantId): Promise<TenantKeyStatus> {
    let file;
    try {
      file = await open(this.#path(tenant), constants.O_RDONLY | constants.O_NOFOLLOW);
    } catch (error) {
      if (isErrno(error, "ENOENT")) {
        return { present: false, fingerprint: null, changed_at: null, problem: null };
      }
      throw error;
    }
    try {
      const { mode, mtime } = await file.stat();
      // One more than a key has, to see what is too long.
      const buffer = Buffer.alloc(keyBytes + 1);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
      const whole = bytesRead === keyBytes;
      const fingerprint = whole ? keyFingerprint(buffer.subarray(0, keyBytes)) : null;
      buffer.fill(0);
      return {
        present: true,
        fingerprint,
        changed_at: mtime.toISOString(),
        problem: whole ? modeProblem(mode) : `it has not ${keyBytes} bytes`,
      };
    } finally {
      await file.close();
    }
  }

  async ensure(tenant: TenantId): Promise<boolean> {
    const { present, problem } = await this.status(tenant);
    if (problem !== null) {
      throw new OperationError(`${this.#path(tenant)} cannot be used as a key: ${problem}`, {
        hint: `restore it: mvm tenant key import ${tenant} --from-file <key> --force`,
      });
    }
    if (present) return false;
    await this.replace(tenant, randomBytes(keyBytes));
    return true;
  }

  async replace(tenant: TenantId, key: Uint8Array): Promise<void> {
    if (key.length !== keyBytes) throw new OperationError(`a key has ${keyBytes} bytes`);
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    // The caller holds the tenant's lock; half a key is of nobody's use.
    await removeHalfWrittenOf(this.#path(tenant));
    await writeFileAtomic(this.#path(tenant), key, keyMode);
    key.fill(0);
  }

  fingerprint(key: Uint8Array): string {
    return keyFingerprint(key);
  }

  async remove(tenant: TenantId): Promise<void> {
    await removeHalfWrittenOf(this.#path(tenant));
    await rm(this.#path(tenant), { force: true });
    try {
      await syncFolder(this.#folder);
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
  }

  #path(tenant: TenantId): string {
    return join(this.#folder, `${tenant}.key`);
  }
}

/** Says which key it is and nothing of what it is: a hash of 256 random bits leads nowhere back. */
export function keyFingerprint(key: Uint8Array): string {
  const hash = createHash("sha256").update("mvm tenant key\0").update(key).digest("hex");
  return hash.slice(0, fingerprintDigits);
}

function modeProblem(mode: number): string | null {
  return (mode & 0o077) === 0 ? null : "others than root may read it";
}
