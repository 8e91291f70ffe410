import * as z from "zod/mini";
import { type TenantId, parseTenantId } from "./ids.ts";
import { quotasSchema } from "./quota-schema.ts";
import type { Quotas } from "./quota.ts";
import type { RecordForm } from "./record-form.ts";

export type ManagedBy = "local" | "document";

/** The security, quota and network boundary. It has no runtime state. */
export interface Tenant {
  readonly schema_version: 2;
  readonly tenant_id: TenantId;
  readonly managed_by: ManagedBy;
  readonly net_id: number;
  readonly quotas: Quotas;
  readonly created_at: string;
  /** A template's name when `mvm new` made it. */
  readonly template: string | null;
  /** Set before destruction begins, so that a destroy that died goes on and nothing starts meanwhile. */
  readonly destroying: boolean;
  /** The reconciler never stops an instance of it. */
  readonly pinned: boolean;
  /** Until then an operator may change what a document manages, and no document overwrites it. */
  readonly override_until: string | null;
}

const schema: z.ZodMiniType<Tenant> = z.strictObject({
  schema_version: z.literal(2),
  tenant_id: z.pipe(z.string(), z.transform(parseTenantId)),
  managed_by: z.enum(["local", "document"]),
  net_id: z.int().check(z.gte(0), z.lte(4095)),
  quotas: quotasSchema,
  created_at: z.iso.datetime(),
  template: z.nullable(z.string()),
  destroying: z.boolean(),
  pinned: z.boolean(),
  override_until: z.nullable(z.iso.datetime()),
});

export const tenantForm: RecordForm<Tenant> = {
  version: 2,
  schema,
  migrations: { 1: (old) => ({ ...old, pinned: false, override_until: null }) },
};
