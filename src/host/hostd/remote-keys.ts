import type { TenantId } from "../../domain/ids.ts";
import type { TenantKeyStatus, TenantKeys } from "../../ports/tenant-keys.ts";
import { keyFingerprint } from "../store/file-tenant-keys.ts";
import type { HostdClient } from "./client.ts";

/** The keys of tenants, which never leave hostd. */
export class RemoteTenantKeys implements TenantKeys {
  readonly #hostd: HostdClient;

  constructor(hostd: HostdClient) {
    this.#hostd = hostd;
  }

  status(tenant: TenantId): Promise<TenantKeyStatus> {
    return this.#hostd.call("KeyStatus", { tenant });
  }

  async ensure(tenant: TenantId): Promise<boolean> {
    return (await this.#hostd.call("KeyEnsure", { tenant })).made;
  }

  async replace(tenant: TenantId, key: Uint8Array): Promise<void> {
    await this.#hostd.call("KeyReplace", { tenant, key: Buffer.from(key).toString("base64") });
    key.fill(0);
  }

  fingerprint(key: Uint8Array): string {
    return keyFingerprint(key);
  }

  async remove(tenant: TenantId): Promise<void> {
    await this.#hostd.call("KeyRemove", { tenant });
  }
}
