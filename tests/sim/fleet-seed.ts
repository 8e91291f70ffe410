import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { DesiredRefusedError } from "../../src/domain/desired-refusal.ts";
import { MvmError } from "../../src/domain/errors.ts";
import { parsePoolId, parseTenantId } from "../../src/domain/ids.ts";
import { readInForce } from "../../src/node/desired/reconcile-desired.ts";
import { type DocumentInForce, Reconciler, noDocument } from "../../src/node/desired/reconciler.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import {
  type Action,
  type ActionKind,
  type Held,
  endsByItself,
  objectOf,
} from "../../src/planner/action.ts";
import type { SignedDesired } from "../../src/protocol/signed-desired.ts";
import { TestCoordinator, type WrittenDocument, bytesOf } from "../builders/documents.ts";
import { randomOf } from "../builders/random.ts";
import { CrashError, FakeHost, imageOfFlake } from "../fakes/fake-host.ts";
import { assertAuditWhole, assertAudited, assertNothingLeaked } from "./checkers.ts";
import type { Coverage } from "./fleet-coverage.ts";
import { assertAsDocument } from "./fleet-checkers.ts";
import { type SeedTraits, badFlake, randomDocument, traitsOf } from "./fleet-documents.ts";
import { helloPool } from "./hello-pool.ts";

const fewestActions = 30;
const fewestFaults = 5;
/** The one coordinator of all seeds: a key takes long to make. */
const coordinator = new TestCoordinator();
const mine = { tenant: parseTenantId("mine"), pool: parsePoolId("own") };

/** Every kind of action, and how many calls of ports one makes at the most; a missing one does not compile. */
const mostCalls: Readonly<Record<ActionKind, number>> = {
  "apply-tenant": 12,
  "apply-pool": 8,
  "remove-pool": 9,
  "remove-tenant": 13,
  "ensure-network": 3,
  "settle-instance": 16,
  "build-image": 14,
  "confirm-image": 6,
  "rollback-image": 8,
  "create-instance": 8,
  "start-instance": 28,
  "resume-instance": 10,
  "warm-instance": 10,
  "stop-instance": 14,
  "destroy-instance": 12,
};
export const actionKinds: readonly ActionKind[] = Object.keys(mostCalls) as ActionKind[];

/** Every moment of every kind of action at which a process can die. One seed after the other begins with the next. */
const targets: readonly Target[] = actionKinds.flatMap((kind) => [
  ...Array.from({ length: mostCalls[kind] }, (_, index) => index + 1).flatMap((call) => [
    { kind, call, when: "crash-before" as const },
    { kind, call, when: "crash-after" as const },
  ]),
  { kind, call: 0, when: "crash-done" as const },
]);

/** When a process is to die within an action: at its n-th call, or once it is done. */
interface Target {
  readonly kind: ActionKind;
  readonly call: number;
  readonly when: "crash-before" | "crash-after" | "crash-done";
}

/**
 * One seed: a coordinator pushes documents to a node, some get lost, some arrive twice or late; meanwhile
 * processes die, ports fail and are slow, guests are lost and operators meddle. Once all that ends the
 * node must be as the newest document says.
 */
export class FleetSeed {
  readonly #seed: number;
  readonly #coverage: Coverage;
  readonly #random: () => number;
  readonly #traits: SeedTraits;
  readonly #host = new FakeHost();
  readonly #current = new AsyncLocalStorage<{ readonly action: Action; calls: number }>();
  readonly #pushed: SignedDesired[] = [];
  readonly #busy = new Set<string>();
  readonly #problems: string[] = [];
  #newest: WrittenDocument | undefined;
  #operations: NodeOperations;
  #reconciler: Reconciler;
  #target: Target | undefined;
  #isFaulty = true;
  #inForce: DocumentInForce = noDocument;
  #dueDeath = false;
  #isDead = false;
  #hasOwn = false;
  #actions = 0;
  #faults = 0;

  constructor(seed: number, coverage: Coverage) {
    this.#seed = seed;
    this.#coverage = coverage;
    this.#random = randomOf(seed * 7919);
    this.#target = this.#nextTarget();
    this.#traits = traitsOf(this.#random, this.#target?.kind);
    this.#host.production = true;
    this.#host.trustedKeys = [coordinator.publicKey];
    for (const role of ["worker", "gateway"])
      this.#host.badImages.add(imageOfFlake(badFlake, role));
    this.#host.fault = (call) => this.#fault(call);
    this.#host.turns = (call) => (call === "vmm.start" && this.#isFaulty ? this.#upTo(3) : 0);
    [this.#operations, this.#reconciler] = this.#newProcess();
  }

  async run(): Promise<void> {
    await this.#withoutFaults(() => this.#makeLocalTenant());
    for (let step = 0; !this.#isEnough(); step += 1) {
      assert.ok(step < 400, `${this.#name}: ${this.#actions} actions, ${this.#faults} faults only`);
      await this.#survive(() => this.#disturb());
      await this.#survive(() => this.#work(1 + this.#upTo(6)));
      this.#check();
    }
    await this.#withoutFaults(() => this.#converge());
    this.#coverage.seeds += 1;
    this.#coverage.actions += this.#actions;
    this.#coverage.faults += this.#faults;
  }

  get #name(): string {
    return `seed ${this.#seed}`;
  }

  #isEnough(): boolean {
    return this.#actions >= fewestActions && this.#faults >= fewestFaults;
  }

  #upTo(most: number): number {
    return Math.floor(this.#random() * (most + 1));
  }

  #newProcess(): [NodeOperations, Reconciler] {
    const plain = this.#host.context();
    const context = {
      ...plain,
      aroundAction: <T>(action: Action, work: () => Promise<T>) => this.#around(action, work),
    };
    return [new NodeOperations(context), new Reconciler(context)];
  }

  /** Counts an action, and checks what holds of every one. */
  async #around<T>(action: Action, work: () => Promise<T>): Promise<T> {
    const object = objectOf(action);
    const [tenant = ""] = object.split("/");
    this.#actions += 1;
    if (this.#busy.has(object) && "instance" in action) {
      this.#problems.push(`two actions at once on ${object}`);
    }
    const ends = ["stop-instance", "warm-instance", "destroy-instance"].includes(action.kind);
    const pool = object.split("/").slice(0, 2).join("/");
    if (ends && this.#traits.critical.has(pool)) {
      this.#problems.push(`${action.kind} of ${object}, which is critical`);
    }
    if (action.kind !== "warm-instance" && ends && this.#traits.pinned.has(tenant)) {
      this.#problems.push(`${action.kind} of ${object}, whose tenant is pinned`);
    }
    if (tenant === mine.tenant && /^(?:apply|remove|confirm|rollback)-/.test(action.kind)) {
      this.#problems.push(`${action.kind} of ${object}, which is managed on the node`);
    }
    this.#busy.add(object);
    try {
      const result = await this.#current.run({ action, calls: 0 }, work);
      const { kind, when } = this.#target ?? {};
      if (when === "crash-done" && kind === action.kind) {
        this.#target = undefined;
        this.#dueDeath = true;
        const done = this.#coverage.afterAction;
        done.set(action.kind, (done.get(action.kind) ?? 0) + 1);
      }
      return result;
    } finally {
      this.#busy.delete(object);
    }
  }

  #fault(call: string): "none" | "crash-before" | "crash-after" | "fail" {
    const within = this.#current.getStore();
    const pair = within === undefined ? undefined : `${within.action.kind} ${call}`;
    if (within !== undefined && pair !== undefined) {
      within.calls += 1;
      this.#coverage.seen.add(pair);
    }
    if (!this.#isFaulty) return "none";
    const fault = this.#choose(within, call);
    if (fault === "none") return fault;
    this.#faults += 1;
    if (fault !== "fail") {
      this.#isDead = true;
      this.#coverage.crashes += 1;
      const crashed = this.#coverage.crashed;
      const point = `${fault} ${pair ?? "no action"}`;
      crashed.set(point, (crashed.get(point) ?? 0) + 1);
    }
    return fault;
  }

  #choose(
    within: { readonly action: Action; readonly calls: number } | undefined,
    call: string,
  ): "none" | "crash-before" | "crash-after" | "fail" {
    if (this.#dueDeath) {
      this.#dueDeath = false;
      return "crash-before";
    }
    const target = this.#target;
    if (
      target !== undefined &&
      target.when !== "crash-done" &&
      within?.action.kind === target.kind &&
      within.calls === target.call
    ) {
      this.#target = undefined;
      return target.when;
    }
    if (this.#random() > 0.004) return "none";
    const kind = this.#random();
    if (kind < 0.3) return "crash-before";
    return kind < 0.6 || call.startsWith("store.") ? "crash-after" : "fail";
  }

  async #withoutFaults(work: () => Promise<void>): Promise<void> {
    const before = this.#isFaulty;
    this.#isFaulty = false;
    try {
      await work();
    } finally {
      this.#isFaulty = before;
    }
  }

  /** What dies is followed by a new process; what fails has failed. */
  async #survive(work: () => Promise<void>): Promise<void> {
    this.#target ??= this.#nextTarget();
    try {
      await work();
    } catch (error) {
      if (!(error instanceof CrashError) && !(error instanceof MvmError)) throw error;
    }
    // A process may have died in work that nobody waits for.
    if (this.#isDead) await this.#die();
  }

  async #die(): Promise<void> {
    this.#reconciler.end();
    await this.#reconciler.idle();
    this.#dueDeath = false;
    this.#isDead = false;
    this.#check();
    [this.#operations, this.#reconciler] = this.#newProcess();
  }

  /** The first of a seed is its own; the others come by chance. */
  #nextTarget(): Target | undefined {
    const index = this.#hasOwn ? this.#upTo(targets.length - 1) : this.#seed % targets.length;
    this.#hasOwn = true;
    return targets[index];
  }

  /** One thing that happens to a node from outside. */
  async #disturb(): Promise<void> {
    const host = this.#host;
    const pick = this.#random();
    if (this.#newest === undefined || pick < 0.35) {
      this.#newest = randomDocument(this.#random, this.#traits);
      const generation = this.#pushed.length + 1;
      this.#pushed.push(coordinator.sign(bytesOf(this.#newest), { generation }));
      if (this.#random() < 0.2) this.#faults += 1;
      else await this.#push(generation);
    } else if (pick < 0.45) {
      this.#faults += 1;
      await this.#push(1 + this.#upTo(this.#pushed.length - 1));
    } else if (pick < 0.6) {
      this.#faults += 1;
      for (const vmm of host.living()) if (this.#random() < 0.4) vmm.alive = false;
    } else if (pick < 0.65) {
      this.#faults += 1;
      host.reboot();
      await this.#die();
    } else if (pick < 0.75) await this.#meddle();
    else host.nowMs += this.#upTo(120) * 1000;
  }

  /** Delivers the document of a generation: taken when none newer was, refused otherwise. */
  async #push(generation: number): Promise<void> {
    const newest = this.#host.desired?.signed?.generation ?? 0;
    const signed = this.#pushed[generation - 1];
    try {
      await this.#operations.acceptDesired({ signed });
      assert.ok(generation >= newest, `${this.#name}: an old document was taken`);
    } catch (error) {
      if (!(error instanceof DesiredRefusedError)) throw error;
      assert.ok(generation < newest, `${this.#name}: ${error.message}`);
      assert.equal(error.reason, "old-generation", this.#name);
    }
  }

  /** An operator does something by hand. */
  async #meddle(): Promise<void> {
    const instances = this.#host.records().tenants.flatMap((records) => records.instances);
    const instance = instances[this.#upTo(instances.length - 1)];
    if (instance === undefined) return;
    const { tenant_id: tenant, pool_id: pool, instance_id } = instance;
    const address = { tenant, pool, instance: instance_id };
    const pick = this.#upTo(3);
    if (pick === 0) await this.#operations.stopInstance(address);
    else if (pick === 1) await this.#operations.destroyInstance(address, true);
    else if (pick === 2 && tenant !== mine.tenant) {
      const counts = { running: this.#upTo(3) };
      await this.#operations.scalePool({ tenant, pool }, counts, 60_000);
    } else await this.#operations.startInstance(address);
  }

  /** The daemon goes so many steps. */
  async #work(steps: number): Promise<void> {
    for (let step = 0; step < steps; step += 1) {
      const { held } = await this.#reconciler.step(this.#document());
      if (this.#reconciler.busy > 0) await this.#reconciler.settled();
      else this.#wait(held);
    }
    await this.#reconciler.idle();
    await this.#reconciler.step(this.#document());
    await this.#reconciler.idle();
  }

  /** The document in force; one that did not change is not parsed again. */
  #document(): DocumentInForce {
    const accepted = this.#host.desired;
    if (this.#inForce.hash !== (accepted?.hash ?? "")) this.#inForce = readInForce(accepted);
    return this.#inForce;
  }

  #wait(held: readonly Held[]): void {
    const nowMs = this.#host.nowMs;
    const ends = held.flatMap(({ untilMs }) => (untilMs === undefined ? [] : [untilMs - nowMs]));
    this.#host.nowMs += Math.max(1000, Math.min(30_000, ...ends));
  }

  /** What must hold at any time. */
  #check(): void {
    assert.deepEqual(this.#problems, [], this.#name);
    assert.deepEqual(this.#host.violations, [], this.#name);
  }

  async #makeLocalTenant(): Promise<void> {
    await this.#operations.createTenant({ tenant: mine.tenant, netId: 9 });
    await this.#operations.createPool(helloPool(mine));
    await this.#operations.scalePool(mine, { running: 1 });
  }

  /** All faults have ended, and the newest document arrives at last. */
  async #converge(): Promise<void> {
    const host = this.#host;
    const { violations } = host;
    assert.deepEqual(violations, [], this.#name);
    await this.#push(this.#pushed.length);
    let last: readonly Held[] = [];
    let doing: readonly Action[] = [];
    for (let step = 0; ; step += 1) {
      assert.ok(
        step < 3000,
        `${this.#name} does not converge: ${JSON.stringify(last)} ${JSON.stringify(doing)}`,
      );
      const { actions, held } = await this.#reconciler.step(this.#document());
      last = held;
      doing = actions;
      if (this.#reconciler.busy > 0) {
        await this.#reconciler.settled();
        continue;
      }
      const waits = held.filter((wait) => endsByItself(wait) || wait.untilMs !== undefined);
      const isOver = waits.every(({ reason }) => reason.startsWith("waiting-for-"));
      if (actions.length === 0 && isOver && !held.some(isHealthWait)) break;
      this.#wait(held);
    }
    this.#check();
    assertNothingLeaked(host, this.#name);
    assertAsDocument(host, this.#newest, last, this.#traits, this.#name);
    // Reading every line back takes longer than all else: a part of the seeds stands for all.
    if (this.#seed % 10 === 0) {
      await assertAuditWhole(host, this.#name);
    } else if (this.#seed % 10 === 5) await assertAudited(host, this.#name);
  }
}

function isHealthWait({ reason }: Held): boolean {
  return reason === "waiting-for-health";
}
