import { z } from "zod";
import { type TenantId, parseTenantId } from "./ids.ts";
import { type Quotas, quotasSchema } from "./quota.ts";

export type ManagedBy = "local" | "document";

/** The security, quota and network boundary. It has no runtime state. */
export interface Tenant {
  readonly schema_version: 1;
  readonly tenant_id: TenantId;
  readonly managed_by: ManagedBy;
  readonly net_id: number;
  readonly quotas: Quotas;
  readonly created_at: string;
  /** A template's name when `mvm new` made it. */
  readonly template: string | null;
  /** Set before destruction begins, so that a destroy that died goes on and nothing starts meanwhile. */
  readonly destroying: boolean;
}

export const tenantSchema: z.ZodType<Tenant> = z.strictObject({
  schema_version: z.literal(1),
  tenant_id: z.string().transform(parseTenantId),
  managed_by: z.enum(["local", "document"]),
  net_id: z.number().int().min(0).max(4095),
  quotas: quotasSchema,
  created_at: z.iso.datetime(),
  template: z.string().nullable(),
  destroying: z.boolean(),
});
