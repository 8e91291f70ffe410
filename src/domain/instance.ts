import * as z from "zod/mini";
import {
  type InstanceAddress,
  type InstanceId,
  type PoolId,
  type TenantId,
  parseInstanceId,
  parsePoolId,
  parseTenantId,
} from "./ids.ts";
import type { InstanceStatus } from "./lifecycle.ts";
import { type InstanceResources, type Pool, instanceResourcesSchema } from "./pool.ts";
import type { RecordForm } from "./record-form.ts";

/** The VMM of an instance; what it is checked by before it is trusted. */
export interface VmmRecord {
  readonly pid: number;
  readonly start_ticks: number;
  /** When its vCPUs first ran. */
  readonly started_at: string;
  /** The image revision it booted from. */
  readonly revision: string;
}

/** What a status carries with it. */
export type InstanceState =
  | { readonly status: "created" | "ready" | "stopped" | "sleeping" | "destroyed" }
  | { readonly status: "running"; readonly since: string; readonly vmm: VmmRecord }
  | { readonly status: "warm"; readonly since: string; readonly vmm: VmmRecord }
  | {
      readonly status: "failed";
      readonly since: string;
      readonly cause: string;
      /** The last lines of the guest's console. */
      readonly console: readonly string[];
    };

export type OperationKind = "start" | "stop" | "warm" | "resume" | "destroy";

/** Work that was begun and is not known to have ended; whoever finds it finishes it or undoes it. */
export interface Operation {
  readonly kind: OperationKind;
  readonly started_at: string;
  readonly step: string;
}

/** One microVM: the only object with runtime state. */
export interface Instance {
  readonly schema_version: 3;
  readonly tenant_id: TenantId;
  readonly pool_id: PoolId;
  readonly instance_id: InstanceId;
  /** Last number of its address on the tenant's /24; held until the instance is destroyed. */
  readonly net_offset: number;
  readonly created_at: string;
  /** Its data disk, and the vCPUs and memory of its last start: a pool's later change touches neither. Null in a record of version 1: what its pool says. */
  readonly resources: InstanceResources | null;
  readonly state: InstanceState;
  /** How many transitions it has gone through, its creation included; each is a line of the audit log. */
  readonly changes: number;
  readonly operation: Operation | null;
  /** The image of its last start, also of one that failed; null before the first. */
  readonly booted_revision: string | null;
  /** Which epoch of its tenant's secrets was on the drive of its last start; 0 before the first. */
  readonly secrets_epoch: number;
  /** How often in a row it failed; the wait before the next start doubles with it. */
  readonly failures: number;
  /** A spare was started to be parked warm and has not served: no minimum running time holds it. */
  readonly spare: boolean;
  /** Until then the reconciler leaves it alone, since an operator moved it by hand. */
  readonly manual_override_until: string | null;
}

// Made when it is first used: a schema takes longer to make than many a command takes for all else.
const vmm = z.lazy(() =>
  z.strictObject({
    pid: z.int().check(z.positive()),
    start_ticks: z.int().check(z.nonnegative()),
    started_at: z.iso.datetime(),
    revision: z.string(),
  }),
);

const state: z.ZodMiniType<InstanceState> = z.lazy(() =>
  z.discriminatedUnion("status", [
    z.strictObject({ status: z.enum(["created", "ready", "stopped", "sleeping", "destroyed"]) }),
    z.strictObject({ status: z.literal("running"), since: z.iso.datetime(), vmm }),
    z.strictObject({ status: z.literal("warm"), since: z.iso.datetime(), vmm }),
    z.strictObject({
      status: z.literal("failed"),
      since: z.iso.datetime(),
      cause: z.string(),
      console: z.array(z.string()),
    }),
  ]),
);

const schema: z.ZodMiniType<Instance> = z.lazy(() =>
  z.strictObject({
    schema_version: z.literal(3),
    tenant_id: z.pipe(z.string(), z.transform(parseTenantId)),
    pool_id: z.pipe(z.string(), z.transform(parsePoolId)),
    instance_id: z.pipe(z.string(), z.transform(parseInstanceId)),
    net_offset: z.int().check(z.gte(2), z.lte(254)),
    created_at: z.iso.datetime(),
    resources: z.nullable(instanceResourcesSchema),
    state,
    changes: z.int().check(z.nonnegative()),
    operation: z.nullable(
      z.strictObject({
        kind: z.enum(["start", "stop", "warm", "resume", "destroy"]),
        started_at: z.iso.datetime(),
        step: z.string(),
      }),
    ),
    booted_revision: z.nullable(z.string()),
    secrets_epoch: z.int().check(z.nonnegative()),
    failures: z.int().check(z.nonnegative()),
    spare: z.boolean(),
    manual_override_until: z.nullable(z.iso.datetime()),
  }),
);

export const instanceForm: RecordForm<Instance> = {
  version: 3,
  schema,
  // What it went through before there was an audit log is in none.
  migrations: {
    1: (old) => ({ ...old, resources: null, changes: 0, secrets_epoch: 0 }),
    2: (old) => ({ ...old, booted_revision: null }),
  },
};

export function addressOf(instance: Instance): InstanceAddress {
  return {
    tenant: instance.tenant_id,
    pool: instance.pool_id,
    instance: instance.instance_id,
  };
}

/** What an instance takes of its host: what it has, not what its pool would give it at its next start. */
export function resourcesOf(instance: Instance, pool: Pool): InstanceResources {
  return instance.resources ?? pool.instance_resources;
}

/** The VMM an instance should have now, or undefined when it should have none. */
export function vmmOf(instance: Instance): VmmRecord | undefined {
  const { state } = instance;
  return state.status === "running" || state.status === "warm" ? state.vmm : undefined;
}

export function statusOf(instance: Instance): InstanceStatus {
  return instance.state.status;
}

/** The image that must stay while the instance is in its state, whatever its pool's current one is. */
export function imageOf(instance: Instance): string | undefined {
  return vmmOf(instance)?.revision;
}
