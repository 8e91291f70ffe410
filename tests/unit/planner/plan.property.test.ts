import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Arbitrary,
  array,
  assert as checkProperty,
  boolean,
  constantFrom,
  integer,
  property,
  record,
} from "fast-check";
import type { Operation, OperationKind } from "../../../src/domain/instance.ts";
import { type InstanceStatus, instanceStatuses } from "../../../src/domain/lifecycle.ts";
import type { QuotaName } from "../../../src/domain/quota.ts";
import type { Role } from "../../../src/domain/roles.ts";
import { formatInstance } from "../../../src/domain/ids.ts";
import { type PlanInput, plan } from "../../../src/planner/plan.ts";
import { ModelHost, usedQuotas } from "../../builders/model-host.ts";
import { aPool, anInstance, nowMs, observed, secondsAgo, seen } from "../../builders/records.ts";

const runs = { numRuns: 500 };
const operationKinds = ["start", "stop", "warm", "resume", "destroy"] as const;
const roles: Role[] = ["gateway", "builder", "worker", "capability-x"];

/** Which statuses an instance can have while an operation on it is not done. */
const foundOn: Readonly<Record<OperationKind, readonly InstanceStatus[]>> = {
  start: ["ready", "stopped", "failed", "running"],
  stop: ["running", "warm", "failed"],
  warm: ["running"],
  resume: ["warm", "running"],
  destroy: instanceStatuses,
};

/** One tenant in any state a crash, an operator or a failure may have left it in. */
const inputs: Arbitrary<PlanInput> = record({
  networkReady: boolean(),
  quota: record({
    max_vcpus: integer({ min: 0, max: 12 }),
    max_mem_mib: integer({ min: 0, max: 4096 }),
    max_running: integer({ min: 0, max: 6 }),
    max_warm: integer({ min: 0, max: 4 }),
    max_instances_per_pool: integer({ min: 0, max: 8 }),
    max_disk_gib: integer({ min: 0, max: 8 }),
  }),
  pools: array(
    record({
      role: constantFrom(...roles),
      running: integer({ min: 0, max: 4 }),
      warm: integer({ min: 0, max: 3 }),
      hasImage: boolean(),
      vcpus: integer({ min: 1, max: 3 }),
      dataDisk: constantFrom(0, 1024),
    }),
    { minLength: 1, maxLength: 3 },
  ),
  members: array(
    record({
      pool: integer({ min: 0, max: 2 }),
      status: constantFrom(...instanceStatuses.filter((status) => status !== "destroyed")),
      sinceSeconds: integer({ min: 0, max: 700 }),
      failures: integer({ min: 0, max: 12 }),
      spare: boolean(),
      overrideSeconds: constantFrom(undefined, undefined, undefined, -5, 300),
      operation: constantFrom(undefined, undefined, undefined, ...operationKinds),
      vmm: constantFrom("as-it-should-be", "as-it-should-be", "none", "other"),
    }),
    { maxLength: 8 },
  ),
}).map(({ networkReady, quota, pools, members }) => {
  const made = pools.map(({ role, running, warm, hasImage, vcpus, dataDisk }, index) =>
    aPool(`p${index}`, {
      role,
      running,
      warm,
      instance_resources: { vcpus, mem_mib: 256, data_disk_mib: dataDisk },
      ...(hasImage ? {} : { revisions: [] }),
    }),
  );
  const instances = members.map((member, index) => {
    const { failures, spare, overrideSeconds, operation: kind } = member;
    const operation: Operation | undefined =
      kind === undefined || !foundOn[kind].includes(member.status)
        ? undefined
        : { kind, started_at: secondsAgo(9), step: "x" };
    const pool = `p${member.pool % pools.length}`;
    const made = anInstance(pool, index + 2, member.status, {
      since: secondsAgo(member.sinceSeconds),
      failures: member.status === "failed" ? Math.max(1, failures) : 0,
      // Only what runs, or is being started, can be a spare on its way.
      spare: spare && member.status === "running",
      ...(operation === undefined ? {} : { operation }),
      ...(overrideSeconds === undefined ? {} : { overrideUntil: secondsAgo(-overrideSeconds) }),
    });
    return member.vmm === "as-it-should-be" ? seen(made) : seen(made, { vmm: member.vmm });
  });
  return observed(made, instances, { quota, networkReady });
});

const startFailures = array(boolean(), { maxLength: 6 });

test("applying plans always converges, whatever state they begin with and whichever starts fail", () => {
  checkProperty(
    property(inputs, startFailures, (input, fails) => {
      const host = new ModelHost(input, fails);
      host.converge();
      for (const record of host.instances) assert.equal(record.operation, null);
    }),
    runs,
  );
});

test("a converged tenant plans nothing, now and a day later", () => {
  checkProperty(
    property(inputs, startFailures, (input, fails) => {
      const host = new ModelHost(input, fails);
      host.converge();
      assert.deepEqual(plan(host.input()).actions, []);
      host.nowMs += 86_400_000;
      assert.deepEqual(plan(host.input()).actions, []);
    }),
    runs,
  );
});

test("without quotas in the way, exactly as many run and are warm as are wanted", () => {
  checkProperty(
    property(inputs, startFailures, (input, fails) => {
      const [tenant] = input.tenants;
      const quota = { max_vcpus: 1000, max_mem_mib: 1e6, max_running: 100, max_warm: 100 };
      const host = new ModelHost(
        observed(tenant?.pools ?? [], tenant?.instances ?? [], { quota }),
        fails,
      );
      const last = host.converge();
      assert.deepEqual(last.held, []);
      for (const pool of tenant?.pools ?? []) {
        const of = (status: string): number =>
          host.instances.filter(
            ({ pool_id, state }) => pool_id === pool.pool_id && state.status === status,
          ).length;
        assert.deepEqual(
          { running: of("running"), warm: of("warm"), sleeping: 0 },
          pool.desired_counts,
        );
      }
    }),
    runs,
  );
});

test("no plan takes a tenant beyond a quota, or further beyond one it is over already", () => {
  checkProperty(
    property(inputs, startFailures, (input, fails) => {
      const host = new ModelHost(input, fails);
      const pools = input.tenants[0]?.pools ?? [];
      // What was interrupted may have a VMM already and is settled first.
      for (const action of plan(host.input()).actions) {
        if (action.kind === "settle-instance") host.apply(action);
      }
      let before = usedQuotas(pools, host.instances);
      host.converge(() => {
        const after = usedQuotas(pools, host.instances);
        for (const quota of Object.keys(after) as (keyof typeof after)[]) {
          const most = Math.max(host.tenant.quotas[quota], before[quota]);
          assert.ok(after[quota] <= most, `${quota}: ${after[quota]} of ${most}`);
        }
        before = after;
      });
    }),
    runs,
  );
});

test("what was interrupted counts against quotas before it is settled", () => {
  checkProperty(
    property(inputs, startFailures, (input, fails) => {
      const host = new ModelHost(input, fails);
      const pools = input.tenants[0]?.pools ?? [];
      const settled = new ModelHost(input);
      for (const action of plan(input).actions) {
        if (action.kind === "settle-instance") settled.apply(action);
      }
      const inFlight = usedQuotas(pools, settled.instances);
      for (const action of plan(host.input()).actions) host.apply(action);
      const after = usedQuotas(pools, host.instances);
      const quotas: QuotaName[] = ["max_vcpus", "max_mem_mib", "max_running", "max_warm"];
      for (const quota of quotas as (keyof typeof after)[]) {
        const most = Math.max(host.tenant.quotas[quota], inFlight[quota]);
        assert.ok(after[quota] <= most, `${quota}: ${after[quota]} of ${most}`);
      }
    }),
    runs,
  );
});

test("an instance that an operator moved by hand is at most settled, until its time is over", () => {
  checkProperty(
    property(inputs, (input) => {
      const byHand = new Set(
        (input.tenants[0]?.instances ?? [])
          .filter(({ record }) => Date.parse(record.manual_override_until ?? "") > nowMs)
          .map(({ record }) => record.instance_id),
      );
      for (const action of plan(input).actions) {
        if (!("instance" in action) || action.kind === "settle-instance") continue;
        assert.ok(!byHand.has(action.instance.instance), JSON.stringify(action));
      }
    }),
    runs,
  );
});

test("an instance is named by at most one action of a plan", () => {
  checkProperty(
    property(inputs, (input) => {
      const named = plan(input).actions.flatMap((action) =>
        "instance" in action ? [formatInstance(action.instance)] : [],
      );
      assert.equal(new Set(named).size, named.length, named.join(" "));
    }),
    runs,
  );
});

test("the same input gives the same plan and is left as it was", () => {
  checkProperty(
    property(inputs, (input) => {
      const copy = structuredClone(input);
      const first = plan(input);
      assert.deepEqual(plan(input), first);
      assert.deepEqual(input, copy);
    }),
    runs,
  );
});

test("no plan stops or warms an instance of a critical pool, nor stops one of a pinned tenant", () => {
  checkProperty(
    property(inputs, startFailures, boolean(), (input, fails, critical) => {
      const [observedTenant] = input.tenants;
      assert.ok(observedTenant);
      const tenant = { ...observedTenant.tenant, pinned: !critical };
      const pools = observedTenant.pools.map((pool) => ({ ...pool, critical }));
      const host = new ModelHost(
        { ...input, tenants: [{ ...observedTenant, tenant, pools }] },
        fails,
      );
      host.converge(({ actions }) => {
        for (const { kind } of actions) {
          assert.notEqual(kind, "stop-instance");
          if (critical) assert.notEqual(kind, "warm-instance");
        }
      });
    }),
    runs,
  );
});

test("no plan makes and starts more instances than there are vCPUs for", () => {
  checkProperty(
    property(inputs, startFailures, (input, fails) => {
      const host = new ModelHost(input, fails);
      const pools = new Map(input.tenants[0]?.pools.map((pool) => [pool.pool_id, pool]));
      host.converge(({ actions }) => {
        const used = usedQuotas([...pools.values()], host.instances).max_vcpus;
        const asked = actions.flatMap((action) => {
          if (action.kind === "create-instance") return [action.pool.pool];
          return action.kind === "start-instance" ? [action.instance.pool] : [];
        });
        const vcpus = asked.reduce(
          (sum, id) => sum + (pools.get(id)?.instance_resources.vcpus ?? 0),
          0,
        );
        const free = host.tenant.quotas.max_vcpus - used;
        assert.ok(vcpus <= Math.max(0, free), `${vcpus} of ${free}`);
      });
    }),
    runs,
  );
});
