import type { RefusalReason } from "./desired-refusal.ts";
import type { TenantId } from "./ids.ts";
import type { InstanceStatus } from "./lifecycle.ts";
import type { PromiseName } from "./production.ts";
import type { QuotaExcess } from "./quota.ts";
import type { Role } from "./roles.ts";

/** The log of what happened to the node itself. No tenant can have this name. */
export const nodeLog = "@node";

/** Which log a line belongs to: a tenant's, or the node's own. */
export type AuditLogName = TenantId | typeof nodeLog;

interface Of<T extends string> {
  readonly type: T;
  /** Address of the tenant, pool or instance it happened to. */
  readonly object: string;
}

/**
 * What a line of an audit log tells: names and figures, never the value of a secret. A line
 * is on disk before the record that it tells of. So none is lost when the process dies between the
 * two, and one may be there twice, or for a change that never came to be.
 */
export type AuditEvent =
  | (Of<"TenantCreated"> & { readonly net_id: number })
  | (Of<"TenantUpdated"> & { readonly changes: readonly string[] })
  | (Of<"TenantDestroyed"> & { readonly wiped_volumes: boolean })
  | (Of<"PoolCreated"> & { readonly role: Role; readonly flake_ref: string })
  | (Of<"PoolUpdated"> & { readonly changes: readonly string[] })
  | (Of<"PoolScaled"> & { readonly changes: readonly string[] })
  | (Of<"PoolDestroyed"> & { readonly wiped_volumes: boolean })
  /** A line with the same `change` as an earlier one of its instance tells of the same change, tried again: the last one holds. */
  | (Of<"InstanceTransition"> & {
      /** Counts the instance's transitions from 1, its creation. */
      readonly change: number;
      readonly from: InstanceStatus | null;
      readonly to: InstanceStatus;
      readonly cause?: string;
      /** How often in a row it failed, and when it may be started again. */
      readonly failures?: number;
      readonly retry_at?: string;
    })
  | (Of<"VmmAdopted"> & { readonly pid: number })
  | (Of<"ManualOverride"> & { readonly command: string; readonly until: string })
  | (Of<"DocumentOverridden"> & { readonly command: string; readonly until: string })
  /** A minimum running or warm time holds a transition back. */
  | (Of<"TransitionDeferred"> & {
      readonly to: InstanceStatus;
      readonly until: string;
      readonly detail: string;
    })
  | (Of<"MinRuntimeOverridden"> & {
      readonly to: InstanceStatus;
      readonly ran_seconds: number;
      readonly minimum_seconds: number;
    })
  /** A desired-state document is in force from now on; `key_id` is null for one that is not signed. */
  | (Of<"DesiredAccepted"> & {
      readonly generation: number;
      /** SHA-256 of its bytes. */
      readonly document: string;
      readonly key_id: string | null;
    })
  /** `times` counts the equal ones since the last such line. */
  | (Of<"DesiredRefused"> & {
      readonly reason: RefusalReason;
      readonly cause: string;
      readonly times: number;
    })
  /** Somebody who asked this node, or tried to, was refused; `times` counts the equal ones since the last such line. */
  | (Of<"PeerRefused"> & {
      readonly peer: string;
      readonly address: string;
      readonly command: string;
      readonly cause: string;
      readonly times: number;
    })
  | (Of<"CertificateRequested"> & { readonly by_peer: string })
  | (Of<"CertificateInstalled"> & {
      readonly by_peer: string;
      readonly serial: string;
      readonly expires_at: string;
    })
  /** The node believes its CA's newer list; it has so many certificates. */
  | (Of<"RevocationsInstalled"> & { readonly by_peer: string; readonly revoked: number })
  | (Of<"QuotaRefused"> & QuotaExcess & { readonly command: string })
  | (Of<"Refused"> & { readonly command: string; readonly cause: string })
  /** A daemon of production started: what it enforces, what is waived, and what is in the way of every start. */
  | (Of<"ProductionStarted"> & {
      readonly enforced: readonly PromiseName[];
      readonly waived: readonly PromiseName[];
      readonly lacking: readonly PromiseName[];
      readonly waivers_problem: string | null;
    })
  /** Written at each start of a daemon for each waiver that holds. */
  | (Of<"PromiseWaived"> & {
      readonly promise: PromiseName;
      readonly reason: string;
      readonly until: string;
    })
  /** In production, while promises are not kept. */
  | (Of<"StartRefused"> & {
      readonly promises: readonly PromiseName[];
      readonly command: string;
      readonly cause: string;
    })
  | (Of<"SecretsSet"> & { readonly names: readonly string[] })
  | (Of<"SecretsGenerated"> & { readonly names: readonly string[] })
  /** A key was put in place by hand, by what can be said of it. */
  | (Of<"TenantKeyReplaced"> & {
      readonly how: "generated" | "imported";
      readonly lost: string | null;
    })
  | (Of<"ImageBuilt"> & {
      readonly revision: string;
      readonly flake_ref: string;
      readonly locked_url: string;
    })
  /** All instances of the pool are well with it. */
  | (Of<"ImageConfirmed"> & { readonly revision: string })
  | (Of<"ImageRolledBack"> & { readonly revision: string; readonly from: string })
  | (Of<"ActionFailed"> & { readonly action: string; readonly cause: string })
  /** A writer died between a line and the head that covers it; `torn_bytes` of a half-written line were removed. */
  | (Of<"AuditRecovered"> & { readonly lines: number; readonly torn_bytes: number })
  /** The log was not as its head says when the next line was to be added. It stays damaged for whoever verifies it. */
  | (Of<"AuditBroken"> & { readonly cause: string });
