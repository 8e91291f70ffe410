import type { TenantId } from "../../src/domain/ids.ts";
import type { AuditEntry } from "../../src/ports/audit.ts";
import type { FakeHost } from "../fakes/fake-host.ts";

/** All lines of a tenant's audit log. */
export async function auditEvents(host: FakeHost, tenant: TenantId): Promise<AuditEntry[]> {
  return (await host.context().audit.last(tenant, 100_000)) ?? [];
}
