import type { TenantId } from "../domain/ids.ts";

/** The secrets of a tenant: a flat object of strings. */
export type Secrets = Readonly<Record<string, string>>;

export interface StoredSecrets {
  /** What the tenant's owner set, replaced as a whole. */
  readonly values: Secrets;
  /** What mvm made for a template. */
  readonly generated: Secrets;
  /** When each value last changed, by name. */
  readonly values_changed_at: Readonly<Record<string, string>>;
  readonly generated_changed_at: Readonly<Record<string, string>>;
  readonly updated_at: string;
  /** Raised with every change: an instance holds the epoch of its last start. */
  readonly epoch: number;
}

export interface SecretStore {
  /** The file that holds them, for messages. */
  location(tenant: TenantId): string;
  load(tenant: TenantId): Promise<StoredSecrets | undefined>;
  save(tenant: TenantId, secrets: StoredSecrets): Promise<void>;
}
