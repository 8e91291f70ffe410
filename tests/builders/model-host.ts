import { documentFields } from "../../src/domain/desired-pool.ts";
import type { DesiredState } from "../../src/domain/desired-state.ts";
import { type Instance, type InstanceState, addressOf, vmmOf } from "../../src/domain/instance.ts";
import { type InstanceAddress, type PoolAddress, parseInstanceId } from "../../src/domain/ids.ts";
import { type Pool, withCurrentRevision } from "../../src/domain/pool.ts";
import type { Quotas } from "../../src/domain/quota.ts";
import type { Tenant } from "../../src/domain/tenant.ts";
import { type Action, type Held, type Plan, endsByItself } from "../../src/planner/action.ts";
import type { ObservedInstance, ObservedTenant } from "../../src/planner/observed.ts";
import { type PlanInput, plan } from "../../src/planner/plan.ts";
import { aPool, aVmm, imageHash } from "./records.ts";

const passMs = 5000;
const bootMs = 12_000;

/** A host with no I/O: what actions do to the observed state of one tenant, and nothing else. */
export class ModelHost {
  tenant: Tenant;
  isRemoved = false;
  /** Flakes whose instances never become healthy. */
  readonly badFlakes: Set<string> = new Set();
  /** The document in force. */
  document: DesiredState | undefined;
  nowMs: number;
  #pools: Pool[];
  #instances: ObservedInstance[];
  #networkReady: boolean;
  /** Whether the next start fails; when they are used up, all succeed. */
  readonly #startFails: boolean[];
  #nextOffset: number;

  constructor(input: PlanInput, startFails: readonly boolean[] = []) {
    const [observed] = input.tenants;
    if (observed === undefined) throw new Error("the model needs a tenant");
    this.tenant = observed.tenant;
    this.nowMs = input.nowMs;
    this.#pools = [...observed.pools];
    this.#instances = [...observed.instances];
    this.#networkReady = observed.networkReady;
    this.#startFails = [...startFails];
    this.#nextOffset = Math.max(99, ...this.#instances.map(({ record }) => record.net_offset)) + 1;
  }

  get pools(): readonly Pool[] {
    return this.#pools;
  }

  get instances(): readonly Instance[] {
    return this.#instances.map(({ record }) => record);
  }

  input(): PlanInput {
    const observed: ObservedTenant = {
      tenant: this.tenant,
      pools: this.#pools,
      networkReady: this.#networkReady,
      instances: this.#instances.map((member) => ({ ...member, ...this.#health(member) })),
    };
    return {
      tenants: this.isRemoved ? [] : [observed],
      ...(this.document === undefined ? {} : { desired: this.document }),
      capabilities: { memorySnapshot: false },
      startingVcpus: 4,
      nowMs: this.nowMs,
    };
  }

  /**
   * Plans and applies until nothing is planned and nothing is waited for. `check` sees each plan
   * before it is applied. @returns the last plan.
   */
  converge(check: (next: Plan) => void = () => undefined, maxPasses = 1000): Plan {
    for (let pass = 0; pass < maxPasses; pass += 1) {
      const next = plan(this.input());
      check(next);
      if (next.actions.length === 0 && !next.held.some(isAwaited)) {
        // An operator's override ends too; only then is there nothing more to come.
        const untilMs = Math.max(...next.held.map((held) => held.untilMs ?? 0), 0);
        if (untilMs <= this.nowMs) return next;
        this.nowMs = untilMs + 1;
        continue;
      }
      for (const action of next.actions) this.apply(action);
      this.nowMs += passMs;
    }
    throw new Error(`it did not converge in ${maxPasses} passes`);
  }

  apply(action: Action): void {
    switch (action.kind) {
      case "ensure-network":
        this.#networkReady = true;
        return;
      case "build-image":
        this.#change(action.pool, (pool) => {
          const { flake_ref, profile } = pool;
          const revision = imageOf(flake_ref);
          const revisions = withCurrentRevision(pool.revisions, revision);
          return { revisions, built_from: { flake_ref, profile } };
        });
        return;
      case "create-instance":
        this.#create(action.pool);
        return;
      case "settle-instance":
        this.#update(action.instance, (member) => this.#settle(member));
        return;
      case "start-instance":
        this.#update(action.instance, ({ record }) =>
          this.#start({ ...record, spare: action.spare }),
        );
        return;
      case "resume-instance":
        this.#update(action.instance, ({ record }) => this.#runs({ ...record, spare: false }));
        return;
      case "warm-instance":
        this.#update(action.instance, ({ record }) => this.#isWarm(record));
        return;
      case "stop-instance":
        this.#update(action.instance, ({ record }) => isStopped(record));
        return;
      case "destroy-instance":
        this.#update(action.instance, () => undefined);
        return;
      case "confirm-image":
        this.#change(action.pool, { good_revision: action.revision });
        return;
      case "rollback-image":
        this.#change(action.pool, {
          revisions: [action.revision, action.from],
          rejected_revision: action.from,
        });
        return;
      case "apply-tenant":
        this.tenant = {
          ...this.tenant,
          quotas: action.desired.quotas,
          pinned: action.desired.pinned,
        };
        return;
      case "apply-pool": {
        const fields = documentFields(action.desired);
        const isNew = this.#pools.every(({ pool_id }) => pool_id !== action.pool.pool);
        if (isNew) {
          const made = aPool(action.pool.pool, {
            ...fields,
            managed_by: "document",
            revisions: [],
          });
          this.#pools.push({ ...made, desired_counts: action.desired.desired_counts });
        } else this.#change(action.pool, { ...fields, rejected_revision: null });
        return;
      }
      case "remove-pool":
        this.#pools = this.#pools.filter(({ pool_id }) => pool_id !== action.pool.pool);
        return;
      case "remove-tenant":
        this.isRemoved = true;
        return;
    }
  }

  #change(
    { pool: id }: PoolAddress,
    changes: Partial<Pool> | ((pool: Pool) => Partial<Pool>),
  ): void {
    this.#pools = this.#pools.map((pool) =>
      pool.pool_id === id
        ? { ...pool, ...(typeof changes === "function" ? changes(pool) : changes) }
        : pool,
    );
  }

  #health({ record, vmm }: ObservedInstance): Pick<ObservedInstance, "health"> {
    if (record.state.status !== "running" || vmm !== "recorded") return { health: "unknown" };
    const isBad = [...this.badFlakes].some((flake) => imageOf(flake) === revisionOf(record));
    if (isBad) return { health: "starting" };
    const ranMs = this.nowMs - Date.parse(record.state.since);
    return { health: ranMs >= bootMs ? "healthy" : "starting" };
  }

  #update(
    address: InstanceAddress,
    change: (member: ObservedInstance) => ObservedInstance | undefined,
  ): void {
    this.#instances = this.#instances.flatMap((member) => {
      if (addressOf(member.record).instance !== address.instance) return [member];
      const changed = change(member);
      return changed === undefined ? [] : [changed];
    });
  }

  #create(address: PoolAddress): void {
    const offset = this.#nextOffset;
    this.#nextOffset += 1;
    const record: Instance = {
      schema_version: 3,
      tenant_id: address.tenant,
      pool_id: address.pool,
      instance_id: parseInstanceId(`i-${offset.toString(16).padStart(8, "0")}`),
      net_offset: offset,
      created_at: this.#now(),
      resources: null,
      changes: 1,
      state: { status: "ready" },
      operation: null,
      booted_revision: null,
      secrets_epoch: 0,
      failures: 0,
      spare: false,
      manual_override_until: null,
    };
    this.#instances.push(without(record));
  }

  #settle(member: ObservedInstance): ObservedInstance | undefined {
    const { record, vmm } = member;
    const living = vmm !== "none";
    switch (record.operation?.kind) {
      case "destroy":
        return undefined;
      case "stop":
        return isStopped(record);
      case "start":
        if (living) return this.#runs(record);
        break;
      case "warm":
        if (living) return this.#isWarm(record);
        break;
      case "resume":
        if (living) return this.#runs({ ...record, spare: false });
        break;
      case undefined:
        break;
    }
    const shouldRun = vmmOf(record) !== undefined;
    if (shouldRun && !living) return this.#fails(record);
    const settled = { ...record, operation: null };
    return shouldRun ? { ...member, record: settled, vmm: "recorded" } : without(settled);
  }

  #start(record: Instance): ObservedInstance {
    return this.#startFails.shift() === true ? this.#fails(record) : this.#runs(record);
  }

  #runs(record: Instance): ObservedInstance {
    // What was resumed or adopted goes on with the image and resources it had.
    const had = vmmOf(record);
    const pool = this.#pools.find(({ pool_id }) => pool_id === record.pool_id);
    const vmm = had ?? { ...aVmm(), revision: pool?.revisions[0] ?? imageHash };
    const resources = had === undefined ? (pool?.instance_resources ?? null) : record.resources;
    return having(
      { ...record, resources, booted_revision: vmm.revision },
      { status: "running", since: this.#now(), vmm },
    );
  }

  #isWarm(record: Instance): ObservedInstance {
    const state = { status: "warm", since: this.#now(), vmm: vmmOf(record) ?? aVmm() } as const;
    return having({ ...record, spare: false }, state);
  }

  #fails(record: Instance): ObservedInstance {
    const state = { status: "failed", since: this.#now(), cause: "it died", console: [] } as const;
    return without({ ...record, state, operation: null, failures: record.failures + 1 });
  }

  #now(): string {
    return new Date(this.nowMs).toISOString();
  }
}

/** What waits for a gateway ends only when something happens to the gateway, and that is planned or held by itself. */
function isAwaited(held: Held): boolean {
  return (
    endsByItself(held) &&
    held.reason !== "waiting-for-gateway" &&
    held.reason !== "waiting-for-update"
  );
}

/** What a tenant uses of each quota, counted anew here so that the planner's own counting is tested. */
export function usedQuotas(
  pools: readonly Pool[],
  instances: readonly Instance[],
): Omit<Quotas, "max_pools"> {
  const used = {
    max_vcpus: 0,
    max_mem_mib: 0,
    max_running: 0,
    max_warm: 0,
    max_instances_per_pool: 0,
    max_disk_gib: 0,
  };
  for (const pool of pools) {
    const { vcpus, mem_mib, data_disk_mib } = pool.instance_resources;
    const members = instances.filter(({ pool_id }) => pool_id === pool.pool_id);
    used.max_instances_per_pool = Math.max(used.max_instances_per_pool, members.length);
    used.max_disk_gib += (members.length * data_disk_mib) / 1024;
    for (const { state, spare } of members) {
      if (state.status !== "running" && state.status !== "warm") continue;
      used.max_vcpus += vcpus;
      used.max_mem_mib += mem_mib;
      if (state.status === "warm" || spare) used.max_warm += 1;
      else used.max_running += 1;
    }
  }
  return used;
}

/** The image that a flake makes in the model. */
function imageOf(flakeRef: string): string {
  return flakeRef === "builtin:hello"
    ? imageHash
    : Buffer.from(flakeRef).toString("hex").padEnd(64, "0").slice(-64);
}

function revisionOf(record: Instance): string | undefined {
  return vmmOf(record)?.revision;
}

function having(record: Instance, state: InstanceState): ObservedInstance {
  return {
    record: { ...record, state, operation: null },
    vmm: "recorded",
    health: "unknown",
    healthDetail: "",
  };
}

function without(record: Instance): ObservedInstance {
  return { record, vmm: "none", health: "unknown", healthDetail: "" };
}

function isStopped(record: Instance): ObservedInstance {
  return without({
    ...record,
    state: { status: "stopped" },
    operation: null,
    spare: false,
    failures: 0,
  });
}
