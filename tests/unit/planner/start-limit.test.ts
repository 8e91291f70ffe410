import assert from "node:assert/strict";
import { test } from "node:test";
import { plan } from "../../../src/planner/plan.ts";
import { aPool, anInstance, observed, seen } from "../../builders/records.ts";

const pool = aPool("web", { running: 3 });

function planned(
  startingVcpus: number,
  instances: Parameters<typeof observed>[1],
): { starts: number; held: string[] } {
  const { actions, held } = plan({ ...observed([pool], instances), startingVcpus });
  return {
    starts: actions.filter(({ kind }) => kind === "start-instance").length,
    held: held.map(({ reason }) => reason),
  };
}

const stopped = [10, 11, 12].map((offset) => seen(anInstance("web", offset, "stopped")));

test("no more instances start at once than the host has vCPUs for", () => {
  assert.deepEqual(planned(2, stopped), { starts: 2, held: ["start-limit"] });
});

test("an instance that is larger than the host still starts, alone", () => {
  assert.deepEqual(planned(0, stopped), { starts: 1, held: ["start-limit"] });
});

test("one that is not healthy yet keeps its turn", () => {
  const booting = seen(anInstance("web", 9, "running", { since: "2026-01-01T11:59:50.000Z" }), {
    health: "starting",
  });
  const { starts, held } = planned(1, [booting, ...stopped.slice(0, 2)]);
  assert.equal(starts, 0);
  assert.ok(held.includes("start-limit"));
});

test("one that takes too long, or is known to be unhealthy, holds up nobody", () => {
  const slow = seen(anInstance("web", 9, "running", { since: "2026-01-01T11:50:00.000Z" }), {
    health: "starting",
  });
  assert.equal(planned(1, [slow, ...stopped.slice(0, 2)]).starts, 1);
  const broken = seen(anInstance("web", 9, "running", { since: "2026-01-01T11:59:50.000Z" }), {
    health: "unhealthy",
  });
  assert.equal(planned(1, [broken, ...stopped.slice(0, 2)]).starts, 1);
});
