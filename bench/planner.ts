import { type TenantId, parseInstanceId, parseTenantId } from "../src/domain/ids.ts";
import type { ObservedInstance, ObservedTenant } from "../src/planner/observed.ts";
import { type PlanInput, plan } from "../src/planner/plan.ts";
import { aPool, aTenant, anInstance, observed, seen } from "../tests/builders/records.ts";
import { type Benchmark, interleaved, median, result } from "./samples.ts";

const tenants = 1000;
const poolsEach = 10;
const instancesEach = 10;
const rounds = 15;

const states = ["empty", "converged", "drift"] as const;
type State = (typeof states)[number];

/** How long a plan for a whole fleet takes, and how that grows. */
export const planner: Benchmark = {
  measures: {
    "planner-time": `${tenants} tenants x ${poolsEach} pools x ${instancesEach} instances, worst of empty, converged, 10% drift`,
    "planner-growth": "twice the tenants over once, the worst of the three",
  },
  async measure() {
    const runs = states.flatMap((state) =>
      [1, 2].map((factor) => {
        const input = fleet(tenants * factor, state);
        const expected = actionsExpected(tenants * factor, state);
        const run = (): number => {
          // Its own time on the processor: it waits for nothing, and neighbours should not count.
          const before = process.threadCpuUsage();
          const { actions } = plan(input);
          const { user, system } = process.threadCpuUsage(before);
          const tookMs = (user + system) / 1000;
          if (actions.length !== expected) {
            throw new Error(`${state}: ${actions.length} actions planned, not ${expected}`);
          }
          return tookMs;
        };
        return [`${state} x${factor} (ms)`, run] as const;
      }),
    );
    const samples = await interleaved(rounds, Object.fromEntries(runs));
    const series = (state: State, factor: number): number[] =>
      samples[`${state} x${factor} (ms)`] ?? [];
    // Round by round, so that a round in which the machine was slow is slow on both sides.
    const growth = (state: State): number => {
      const once = series(state, 1);
      return median(series(state, 2).map((tookMs, round) => tookMs / (once[round] ?? 0)));
    };
    return {
      samples,
      results: [
        result(
          "planner-time",
          Math.max(...states.map((state) => median(series(state, 1)))) / 1000,
          "s",
          1,
        ),
        result("planner-growth", Math.max(...states.map(growth)), "x", 2.2),
      ],
    };
  },
};

/** A gateway and nine pools of workers in each tenant, with quotas that let all of it run. */
function fleet(count: number, state: State): PlanInput {
  return {
    ...observed([], []),
    startingVcpus: Number.MAX_SAFE_INTEGER,
    tenants: Array.from({ length: count }, (_, n) => tenantOf(parseTenantId(`t${n}`), n, state)),
  };
}

function tenantOf(tenant_id: TenantId, number: number, state: State): ObservedTenant {
  const size = poolsEach * instancesEach;
  const pools = Array.from({ length: poolsEach }, (_, n) => ({
    ...aPool(`p${n}`, { running: instancesEach }),
    tenant_id,
    role: n === 0 ? ("gateway" as const) : ("worker" as const),
  }));
  const instances = pools.flatMap((pool, p) =>
    Array.from({ length: state === "empty" ? 0 : instancesEach }, (_, i): ObservedInstance => {
      const index = p * instancesEach + i;
      // The newest of each pool has died, so that the gateway pool is short too.
      const gone = state === "drift" && i === instancesEach - 1;
      return seen({
        ...anInstance(pool.pool_id, index + 2, gone ? "stopped" : "running"),
        tenant_id,
        instance_id: parseInstanceId(`i-${(number * size + index).toString(16).padStart(8, "0")}`),
      });
    }),
  );
  const quota = { max_vcpus: size, max_running: size, max_instances_per_pool: size };
  return { tenant: { ...aTenant({ quota }), tenant_id }, pools, instances, networkReady: true };
}

/** Gateways first: until they serve, nothing else is started. */
function actionsExpected(count: number, state: State): number {
  switch (state) {
    case "empty":
      return count * instancesEach;
    case "converged":
      return 0;
    case "drift":
      return count;
  }
}
