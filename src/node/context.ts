import type { InstanceId } from "../domain/ids.ts";
import type { Action } from "../planner/action.ts";
import type { AuditTrail } from "../ports/audit.ts";
import type { Clock } from "../ports/clock.ts";
import type { DesiredStore } from "../ports/desired-store.ts";
import type { DiskReserve } from "../ports/disk-reserve.ts";
import type { Drives } from "../ports/drives.ts";
import type { GuestLink } from "../ports/guest-link.ts";
import type { ImageBuilder } from "../ports/image-builder.ts";
import type { Images } from "../ports/images.ts";
import type { Logs } from "../ports/logs.ts";
import type { Locks } from "../ports/locks.ts";
import type { Meters } from "../ports/meters.ts";
import type { Network } from "../ports/network.ts";
import type { Production } from "../ports/production.ts";
import type { SecretStore } from "../ports/secret-store.ts";
import type { Store } from "../ports/store.ts";
import type { TenantKeys } from "../ports/tenant-keys.ts";
import type { Vmm } from "../ports/vmm.ts";

export interface NodeSettings {
  /** The uid of an instance's VMM is this + net id · 256 + address offset. */
  readonly vmUidBase: number;
  /** Where the run folders of instances lie; VMMs are found again by it. */
  readonly instanceRunRoot: string;
  /** How long a guest may take from its first instruction until its agent answers. */
  readonly bootTimeoutMs: number;
  /** How many vCPUs of instances that are not healthy yet the host bears at once. */
  readonly startingVcpus: number;
  /** How many actions run side by side. */
  readonly parallelActions: number;
  readonly buildTimeoutMs: number;
  /** MVM_PRODUCTION=1: what is promised and not in place is refused. */
  readonly production: boolean;
}

/** All that the node's engine works with. It cannot tell a real host from a simulated one. */
export interface NodeContext {
  readonly settings: NodeSettings;
  readonly store: Store;
  readonly secrets: SecretStore;
  readonly desired: DesiredStore;
  readonly audit: AuditTrail;
  readonly reserve: DiskReserve;
  readonly keys: TenantKeys;
  readonly images: Images;
  readonly builder: ImageBuilder;
  readonly drives: Drives;
  readonly network: Network;
  readonly vmm: Vmm;
  readonly guestLink: GuestLink;
  readonly logs: Logs;
  readonly meters: Meters;
  /** What this host keeps of production's promises; asked before each start, in production alone. */
  readonly production: Production;
  readonly locks: Locks;
  readonly clock: Clock;
  readonly newInstanceId: () => InstanceId;
  /** 32 random bytes in hexadecimal, for a generated secret. */
  readonly newToken: () => string;
  /** One short line for a person who waits. */
  readonly onProgress: (line: string) => void;
  /** Goes around each action of a plan, for who measures or watches them. */
  readonly aroundAction?: <T>(action: Action, work: () => Promise<T>) => Promise<T>;
  /** Aborted when the operator wants to leave: running steps end early and what was begun is settled next time. */
  readonly signal: AbortSignal;
}

/** Now, as state files write it. */
export function timestamp(context: Pick<NodeContext, "clock">): string {
  return new Date(context.clock.nowMs()).toISOString();
}
