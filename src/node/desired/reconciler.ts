import type { DesiredState } from "../../domain/desired-state.ts";
import { MvmError, describeError } from "../../domain/errors.ts";
import { type TenantId, formatPool } from "../../domain/ids.ts";
import { type Action, type Held, type Plan, tenantOf } from "../../planner/action.ts";
import { backoffEndsMs } from "../../planner/backoff.ts";
import type { ObservedTenant } from "../../planner/observed.ts";
import { startingVcpus } from "../../planner/start-limit.ts";
import { type PlanInput, plan } from "../../planner/plan.ts";
import type { TenantRecords } from "../../ports/store.ts";
import { secretsHash } from "../../protocol/secrets-hash.ts";
import type { NodeContext } from "../context.ts";
import { HeldRecorder } from "../held-recorder.ts";
import { observeHost, observeTenant } from "../observe.ts";
import { endOrphans } from "../orphans.ts";
import { type ReconcileFailure, executeRound } from "../rounds.ts";
import { Slots } from "../slots.ts";
import { Backoffs } from "./backoffs.ts";

/** The document that a reconciler works towards. */
export interface DocumentInForce {
  readonly document: DesiredState | undefined;
  /** What tells it from others; empty without one. */
  readonly hash: string;
}

export const noDocument: DocumentInForce = { document: undefined, hash: "" };

/**
 * Brings a whole node to what its records and the document in force say, one tenant beside the other.
 * Each `step` looks at everything, plans, and sets tenants to work that are not at it yet. A tenant is
 * locked only while something is done to it, so that operators are not kept waiting.
 */
export class Reconciler {
  readonly backoffs: Backoffs = new Backoffs();
  /** The last failure of each object that was not made good since. */
  readonly failures: Map<string, ReconcileFailure> = new Map();
  readonly #context: NodeContext;
  readonly #slots: Slots;
  readonly #tasks = new Map<TenantId, Promise<void>>();
  readonly #recorders = new Map<TenantId, HeldRecorder>();
  #current: DocumentInForce = noDocument;
  /** Tenants that could not be worked on at all, such as one that another command holds. */
  readonly #stuck = new Backoffs();
  #isEnding = false;
  #failure: unknown;

  constructor(context: NodeContext) {
    this.#context = context;
    this.#slots = new Slots(context.settings.parallelActions);
  }

  /** How many tenants are being worked on. */
  get busy(): number {
    return this.#tasks.size;
  }

  /** No further action is begun; those that run go on to their end. */
  end(): void {
    this.#isEnding = true;
  }

  /** Resolves when a tenant's work is over, at once when there is none. What is no failure but a defect is thrown by the next step. */
  async settled(): Promise<void> {
    if (this.#tasks.size > 0) await Promise.race(this.#tasks.values());
  }

  /** Resolves when no work is under way. */
  async idle(): Promise<void> {
    await Promise.all(this.#tasks.values());
  }

  /**
   * Looks, plans, and sets idle tenants to work. A document other than the last one ends what was planned
   * for that, at the next action. @returns the plan for the whole node.
   */
  async step(inForce: DocumentInForce): Promise<Plan> {
    this.#throwFailure();
    this.#current = inForce;
    this.backoffs.sweep(this.#context.clock.nowMs());
    await endOrphans(this.#context);
    const input = await this.#observe(inForce);
    const next = plan(input);
    const starting = startingByTenant(input, next.actions);
    const work = new Map<TenantId, Action[]>();
    for (const action of next.actions) {
      const tenant = tenantOf(action);
      work.set(tenant, [...(work.get(tenant) ?? []), action]);
    }
    // What a minimum or a quota holds back is written down by whoever holds the tenant's lock.
    for (const { object } of next.held.filter((held) => HeldRecorder.isRecorded(held))) {
      const tenant = object.split("/")[0] as TenantId;
      const held = next.held.filter((one) => one.object.split("/")[0] === tenant);
      if (!work.has(tenant) && this.#recorder(tenant).hasNews(held)) work.set(tenant, []);
    }
    for (const [tenant, actions] of work) {
      if (this.#tasks.has(tenant) || this.#isEnding || this.#isStuck(tenant)) continue;
      const elsewhere = starting.total - (starting.of.get(tenant) ?? 0);
      this.#tasks.set(tenant, this.#work(tenant, inForce, actions, elsewhere));
    }
    return { ...next, held: [...next.held, ...this.#stuckHolds()] };
  }

  /** What would be done next, with nothing changed. */
  async plan(inForce: DocumentInForce): Promise<Plan> {
    return plan(await this.#observe(inForce));
  }

  async #work(
    tenant: TenantId,
    inForce: DocumentInForce,
    planned: readonly Action[],
    startingElsewhereVcpus: number,
  ): Promise<void> {
    const { locks, clock } = this.#context;
    try {
      await locks.withTenant(tenant, "reconciling", async () => {
        const isMoved = await this.#round(tenant, inForce, planned, startingElsewhereVcpus);
        this.#stuck.succeeded(tenant);
        // It is looked at again a moment later, not at once: what keeps it as it is may last.
        if (!isMoved) this.#stuck.failed(tenant, "its plan has changed meanwhile", clock.nowMs());
      });
    } catch (error) {
      // Another command holds the tenant, or its state cannot be read now: it is tried again.
      if (error instanceof MvmError) {
        this.#stuck.failed(tenant, describeError(error), clock.nowMs());
        this.#context.onProgress(`${tenant}: ${describeError(error)}`);
      } else this.#failure ??= error;
    } finally {
      this.#tasks.delete(tenant);
    }
  }

  /** Under the tenant's lock: plans it again, since it may have changed meanwhile, and does what both plans say. @returns false when that is nothing. */
  async #round(
    tenant: TenantId,
    inForce: DocumentInForce,
    planned: readonly Action[],
    startingElsewhereVcpus: number,
  ): Promise<boolean> {
    const input = { ...(await this.#observe(inForce, tenant)), startingElsewhereVcpus };
    const now = plan(input);
    const due = inBoth(
      planned,
      now.actions.filter((action) => tenantOf(action) === tenant),
    );
    const isOver = (): boolean => this.#isEnding || this.#current.hash !== inForce.hash;
    const held = now.held.filter(({ object }) => object.split("/")[0] === tenant);
    if (isOver()) return true;
    if (input.tenants.some((observed) => observed.tenant.tenant_id === tenant)) {
      await this.#recorder(tenant).record(held);
    }
    await executeRound(this.#context, due, {
      failed: (failure) => {
        this.failures.set(failure.object, failure);
        this.backoffs.failed(failure.object, failure.cause, this.#context.clock.nowMs());
      },
      succeeded: (object) => {
        this.failures.delete(object);
        this.backoffs.succeeded(object);
      },
      isOver,
      slot: (work) => this.#slots.with(work),
    });
    return due.length > 0 || planned.length === 0;
  }

  /** What a plan is made of: the whole node, or one tenant with what the document says of it. */
  async #observe({ document }: DocumentInForce, only?: TenantId): Promise<PlanInput> {
    const context = this.#context;
    const [{ tenants }, host] = await Promise.all([context.store.load(), observeHost(context)]);
    const isSeen = (id: TenantId): boolean => only === undefined || id === only;
    const desired =
      document === undefined
        ? undefined
        : { ...document, tenants: document.tenants.filter(({ tenant_id }) => isSeen(tenant_id)) };
    const netIds = new Set(desired?.tenants.map(({ network }) => network.tenant_net_id));
    const hashed = new Set(
      desired?.tenants.flatMap(({ tenant_id, secrets_hash }) =>
        secrets_hash === undefined ? [] : [tenant_id],
      ),
    );
    const near = tenants.filter(
      ({ tenant }) => isSeen(tenant.tenant_id) || netIds.has(tenant.net_id),
    );
    const observed = await Promise.all(
      near.map(async (records): Promise<ObservedTenant> => {
        const id = records.tenant.tenant_id;
        if (!isSeen(id)) return unseen(records);
        const seen = await observeTenant(context, records, host);
        return hashed.has(id) ? { ...seen, secretsHash: await this.#secretsHash(id) } : seen;
      }),
    );
    return {
      tenants: observed,
      ...(desired === undefined ? {} : { desired }),
      backoffs: this.backoffs.entries,
      capabilities: context.vmm.capabilities,
      startingVcpus: context.settings.startingVcpus,
      nowMs: context.clock.nowMs(),
    };
  }

  async #secretsHash(tenant: TenantId): Promise<string> {
    return secretsHash((await this.#context.secrets.load(tenant))?.values ?? {});
  }

  #isStuck(tenant: TenantId): boolean {
    return this.#stuckHolds().some(({ object }) => object === tenant);
  }

  #stuckHolds(): Held[] {
    const nowMs = this.#context.clock.nowMs();
    return [...this.#stuck.entries].flatMap(([object, { failures, failedAtMs, cause }]) => {
      const untilMs = backoffEndsMs(failedAtMs, failures);
      return untilMs <= nowMs ? [] : [{ object, reason: "backoff", detail: cause, untilMs }];
    });
  }

  #recorder(tenant: TenantId): HeldRecorder {
    const known = this.#recorders.get(tenant);
    if (known !== undefined) return known;
    const made = new HeldRecorder(this.#context, tenant);
    this.#recorders.set(tenant, made);
    return made;
  }

  #throwFailure(): void {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }
}

/** A tenant that only counts for what it is in the way of. */
function unseen({ tenant, pools }: TenantRecords): ObservedTenant {
  return { tenant, pools, instances: [], networkReady: true };
}

/** The vCPUs that are not healthy yet, or about to start by a plan, in all and of each tenant. */
function startingByTenant(
  { tenants, nowMs }: PlanInput,
  actions: readonly Action[],
): { readonly total: number; readonly of: ReadonlyMap<TenantId, number> } {
  const of = new Map<TenantId, number>();
  const vcpusOf = new Map<string, number>();
  let total = 0;
  const add = (tenant: TenantId, vcpus: number): void => {
    of.set(tenant, (of.get(tenant) ?? 0) + vcpus);
    total += vcpus;
  };
  for (const observed of tenants) {
    const id = observed.tenant.tenant_id;
    add(id, startingVcpus(observed, nowMs));
    for (const pool of observed.pools) {
      vcpusOf.set(`${id}/${pool.pool_id}`, pool.instance_resources.vcpus);
    }
  }
  for (const action of actions) {
    if (action.kind !== "start-instance") continue;
    add(action.instance.tenant, vcpusOf.get(formatPool(action.instance)) ?? 0);
  }
  return { total, of };
}

/** What is in both plans, as often as it is in the one that has it less often. */
function inBoth(planned: readonly Action[], due: readonly Action[]): Action[] {
  const counts = new Map<string, number>();
  for (const action of planned) {
    const key = JSON.stringify(action);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return due.filter((action) => {
    const key = JSON.stringify(action);
    const left = counts.get(key) ?? 0;
    counts.set(key, left - 1);
    return left > 0;
  });
}
