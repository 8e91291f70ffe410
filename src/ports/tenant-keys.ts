import type { TenantId } from "../domain/ids.ts";

/** What can be said of a tenant's key without saying the key. */
export interface TenantKeyStatus {
  readonly present: boolean;
  /** The first 16 hex digits of a hash of the key, to compare copies by; null without a key. */
  readonly fingerprint: string | null;
  readonly changed_at: string | null;
  /** Why a key that is there cannot be used; null when it can. */
  readonly problem: string | null;
}

/**
 * The 32-byte encryption keys of tenants. A key never leaves this port but to what encrypts with it.
 * The caller holds the tenant's lock.
 */
export interface TenantKeys {
  status(tenant: TenantId): Promise<TenantKeyStatus>;
  /** Makes a key of random bytes unless there is one. @returns whether it made one. @throws OperationError when the one that is there cannot be used. */
  ensure(tenant: TenantId): Promise<boolean>;
  /** Puts a key of 32 bytes in place of whatever is there. */
  replace(tenant: TenantId, key: Uint8Array): Promise<void>;
  /** What `status` would say of a key. */
  fingerprint(key: Uint8Array): string;
  /** That there is none is no error. */
  remove(tenant: TenantId): Promise<void>;
}
