import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseTenantId } from "../../../src/domain/ids.ts";
import { objectOf } from "../../../src/planner/action.ts";
import { backoffEndsMs } from "../../../src/planner/backoff.ts";
import { type PlanInput, plan } from "../../../src/planner/plan.ts";
import {
  aPool,
  aTenant,
  anInstance,
  nameOf,
  nowMs,
  observed,
  secondsAgo,
  seen,
} from "../../builders/records.ts";

/** The actions of a plan, each as `kind object`. */
function actionsOf(input: PlanInput): string[] {
  return plan(input).actions.map((action) => `${action.kind} ${objectOf(action)}`);
}

/** What a plan holds, each as `reason object`. */
function heldOf(input: PlanInput): string[] {
  return plan(input).held.map(({ reason, object }) => `${reason} ${object}`);
}

const overrideUntil = secondsAgo(-300);

describe("a running deficit", () => {
  const warm = anInstance("web", 10, "warm");
  const stopped = anInstance("web", 11, "stopped");
  const all = [seen(warm), seen(stopped)];

  test("is filled by resuming warm, then starting stopped, then creating new", () => {
    assert.deepEqual(actionsOf(observed([aPool("web", { running: 3 })], all)), [
      `resume-instance ${nameOf(warm)}`,
      `start-instance ${nameOf(stopped)}`,
      "create-instance acme/web",
    ]);
  });

  test("of one takes the warm one alone", () => {
    assert.deepEqual(actionsOf(observed([aPool("web", { running: 1 })], all)), [
      `resume-instance ${nameOf(warm)}`,
    ]);
  });

  test("takes the oldest of its kind first", () => {
    const older = anInstance("web", 30, "stopped", { createdAt: secondsAgo(99_999) });
    const input = observed([aPool("web", { running: 1 })], [seen(stopped), seen(older)]);
    assert.deepEqual(actionsOf(input), [`start-instance ${nameOf(older)}`]);
  });

  test("takes a running spare before it starts another", () => {
    const spare = anInstance("web", 12, "running", { spare: true });
    const input = observed([aPool("web", { running: 1 })], [seen(stopped), seen(spare)]);
    assert.deepEqual(actionsOf(input), [`resume-instance ${nameOf(spare)}`]);
  });

  test("takes a parked spare before one that still runs and is not proven", () => {
    const running = anInstance("web", 3, "running", { spare: true });
    const input = observed([aPool("web", { running: 1 })], [seen(running), seen(warm)]);
    assert.equal(actionsOf(input)[0], `resume-instance ${nameOf(warm)}`);
  });

  test("is not filled in the place of one whose start was interrupted elsewhere", () => {
    const operation = { kind: "start", started_at: secondsAgo(60), step: "vmm" } as const;
    const interrupted = anInstance("other", 3, "ready", { operation });
    const pools = [aPool("other", { running: 1 }), aPool("web", { running: 1 })];
    const input = observed(pools, [seen(interrupted, { vmm: "other" }), seen(stopped)], {
      quota: { max_running: 1 },
    });
    assert.deepEqual(actionsOf(input), [`settle-instance ${nameOf(interrupted)}`]);
    assert.deepEqual(heldOf(input), ["quota acme/web"]);
  });

  test("comes before the warm spares when there is one left only", () => {
    const input = observed([aPool("web", { running: 1, warm: 1 })], [seen(warm)]);
    assert.deepEqual(actionsOf(input), [
      `resume-instance ${nameOf(warm)}`,
      "create-instance acme/web",
    ]);
  });

  test("is filled within the quota of running instances, and the rest is held", () => {
    const input = observed(
      [aPool("web", { running: 2 })],
      [seen(stopped), seen(anInstance("web", 12, "stopped"))],
      {
        quota: { max_running: 1 },
      },
    );
    assert.deepEqual(actionsOf(input), [`start-instance ${nameOf(stopped)}`]);
    assert.deepEqual(
      plan(input).held.map(({ detail }) => detail),
      ["quota max_running allows 1: 1 used, 1 asked"],
    );
  });

  for (const [quota, limit] of [
    ["max_vcpus", 1],
    ["max_mem_mib", 511],
  ] as const) {
    test(`is not filled beyond ${quota}, of which warm ones take their part`, () => {
      const others = [seen(anInstance("other", 3, "warm")), seen(stopped)];
      const pools = [aPool("other", { warm: 1 }), aPool("web", { running: 1 })];
      const input = observed(pools, others, { quota: { [quota]: limit } });
      assert.deepEqual(actionsOf(input), []);
      assert.deepEqual(heldOf(input), ["quota acme/web"]);
    });
  }

  for (const [quota, limit] of [
    ["max_running", 1],
    ["max_vcpus", 1],
    ["max_mem_mib", 256],
  ] as const) {
    test(`makes no instance that ${quota} then does not let start`, () => {
      const input = observed([aPool("web", { running: 3 })], [], { quota: { [quota]: limit } });
      assert.deepEqual(actionsOf(input), ["create-instance acme/web"]);
      assert.deepEqual(heldOf(input), ["quota acme/web"]);
    });
  }

  test("makes no spare that max_warm then does not let start", () => {
    const input = observed([aPool("web", { warm: 2 })], [], { quota: { max_warm: 1 } });
    assert.deepEqual(actionsOf(input), ["create-instance acme/web"]);
    assert.deepEqual(heldOf(input), ["quota acme/web"]);
  });

  for (const [quota, limit] of [
    ["max_instances_per_pool", 1],
    ["max_disk_gib", 1],
  ] as const) {
    test(`makes no instance beyond ${quota}`, () => {
      const instance_resources = { vcpus: 1, mem_mib: 256, data_disk_mib: 1024 };
      const pool = aPool("web", { running: 2, instance_resources });
      const input = observed([pool], [seen(anInstance("web", 2, "running"))], {
        quota: { [quota]: limit },
      });
      assert.deepEqual(actionsOf(input), []);
      assert.deepEqual(heldOf(input), ["quota acme/web"]);
    });
  }
});

describe("surplus", () => {
  test("is stopped newest first", () => {
    const [oldest, middle, newest] = [2, 3, 4].map((offset) =>
      anInstance("web", offset, "running"),
    );
    assert.ok(oldest && middle && newest);
    const members = [seen(newest), seen(oldest), seen(middle)];
    assert.deepEqual(actionsOf(observed([aPool("web", { running: 1 })], members)), [
      `stop-instance ${nameOf(newest)}`,
      `stop-instance ${nameOf(middle)}`,
    ]);
  });

  test("of running instances becomes the missing warm spares", () => {
    const [older, newer] = [2, 3].map((offset) => anInstance("web", offset, "running"));
    assert.ok(older && newer);
    const input = observed([aPool("web", { running: 1, warm: 1 })], [seen(older), seen(newer)]);
    assert.deepEqual(actionsOf(input), [`warm-instance ${nameOf(newer)}`]);
  });

  test("of warm instances is stopped", () => {
    const spares = [2, 3].map((offset) => anInstance("web", offset, "warm"));
    const input = observed(
      [aPool("web", { warm: 1 })],
      spares.map((spare) => seen(spare)),
    );
    assert.deepEqual(actionsOf(input), ["stop-instance acme/web/i-00000003"]);
  });

  test("that was stopped or never started is left as it is", () => {
    const idle = [anInstance("web", 2, "stopped"), anInstance("web", 3, "ready")];
    assert.deepEqual(
      actionsOf(
        observed(
          [aPool("web")],
          idle.map((one) => seen(one)),
        ),
      ),
      [],
    );
  });
});

describe("a warm spare", () => {
  const spare = anInstance("web", 2, "running", { spare: true, since: secondsAgo(5) });
  const pool = aPool("web", { warm: 1 });

  test("is started as a spare and not to serve", () => {
    const ready = anInstance("web", 2, "ready");
    const { actions } = plan(observed([pool], [seen(ready)]));
    assert.deepEqual(actions, [
      {
        kind: "start-instance",
        instance: { tenant: "acme", pool: "web", instance: ready.instance_id },
        spare: true,
      },
    ]);
  });

  test("is parked as soon as its guest is healthy, whatever its minimum running time", () => {
    assert.deepEqual(actionsOf(observed([pool], [seen(spare)])), [
      `warm-instance ${nameOf(spare)}`,
    ]);
  });

  for (const health of ["starting", "unhealthy", "unknown"] as const) {
    test(`is not parked while its guest is ${health}`, () => {
      const input = observed([pool], [seen(spare, { health, healthDetail: "not yet" })]);
      assert.deepEqual(actionsOf(input), []);
      assert.deepEqual(heldOf(input), [`waiting-for-health ${nameOf(spare)}`]);
    });
  }

  test("whose guest is not healthy after the pool's start time is held as unhealthy", () => {
    const old = anInstance("web", 2, "running", { spare: true, since: secondsAgo(301) });
    const input = observed([pool], [seen(old, { health: "starting" })]);
    assert.deepEqual(heldOf(input), [`unhealthy ${nameOf(old)}`]);
  });

  test("is not started beyond the quota of warm instances", () => {
    const ready = anInstance("web", 2, "ready");
    const input = observed([pool], [seen(ready)], { quota: { max_warm: 0 } });
    assert.deepEqual(actionsOf(input), []);
    assert.deepEqual(heldOf(input), ["quota acme/web"]);
  });
});

test("surplus that never became healthy is stopped and not kept as a spare", () => {
  const good = anInstance("web", 2, "running");
  const bad = anInstance("web", 3, "running", { since: secondsAgo(301) });
  const input = observed(
    [aPool("web", { running: 1, warm: 1 })],
    [seen(good), seen(bad, { health: "starting" })],
  );
  assert.deepEqual(actionsOf(input), [`stop-instance ${nameOf(bad)}`]);
});

test("no instance is made when the tenant's subnet has no address left", () => {
  const pools = ["a", "b", "c"].map((id) => aPool(id, { running: 100 }));
  const instances = Array.from({ length: 253 }, (_, index) =>
    seen(anInstance(["a", "b", "c"][index % 3] ?? "a", index + 2, "running")),
  );
  const quota = { max_running: 1000, max_vcpus: 1000, max_instances_per_pool: 1000 };
  const input = observed(pools, instances, { quota: { ...quota, max_mem_mib: 1_000_000 } });
  assert.deepEqual(actionsOf(input), []);
  assert.deepEqual(heldOf(input), ["no-address acme/a", "no-address acme/b", "no-address acme/c"]);
});

describe("the minimum running time", () => {
  const kept = anInstance("web", 2, "running");

  test("keeps an instance that served less from being warmed, and says until when", () => {
    const young = anInstance("web", 3, "running", { since: secondsAgo(59) });
    const { actions, held } = plan(
      observed([aPool("web", { running: 1, warm: 1 })], [seen(kept), seen(young)]),
    );
    assert.deepEqual(actions, []);
    assert.deepEqual(held, [
      {
        object: nameOf(young),
        reason: "minimum-runtime",
        detail: "it stays running for at least 60 s before it is warm",
        untilMs: nowMs + 1000,
        to: "warm",
      },
    ]);
  });

  test("no longer holds once it is over", () => {
    const old = anInstance("web", 3, "running", { since: secondsAgo(60) });
    const input = observed([aPool("web", { running: 1, warm: 1 })], [seen(kept), seen(old)]);
    assert.deepEqual(actionsOf(input), [`warm-instance ${nameOf(old)}`]);
  });

  test("keeps surplus that serves from being stopped, and not surplus that never served", () => {
    const young = anInstance("web", 3, "running", { since: secondsAgo(59) });
    const one = [aPool("web", { running: 1 })];
    assert.deepEqual(actionsOf(observed(one, [seen(kept), seen(young)])), []);
    assert.deepEqual(heldOf(observed(one, [seen(kept), seen(young)])), [
      `minimum-runtime ${nameOf(young)}`,
    ]);
    const booting = seen(young, { health: "starting" });
    const input = observed(one, [seen(kept), booting]);
    assert.deepEqual(actionsOf(input), [`stop-instance ${nameOf(young)}`]);
  });

  test("is one of its own for warm instances", () => {
    for (const [seconds, reasons] of [
      [29, ["minimum-runtime"]],
      [30, []],
    ] as const) {
      const warm = anInstance("web", 3, "warm", { since: secondsAgo(seconds) });
      const { held } = plan(observed([aPool("web")], [seen(warm)]));
      assert.deepEqual(
        held.map(({ reason }) => reason),
        reasons,
      );
    }
  });
});

describe("after all VMMs were lost", () => {
  const pool = aPool("web", { running: 1, warm: 1 });

  test("instances are settled, and none is made in the place of one that was warm", () => {
    const lost = [anInstance("web", 2, "running"), anInstance("web", 3, "warm")];
    const input = observed(
      [pool],
      lost.map((record) => seen(record, { vmm: "none" })),
    );
    assert.deepEqual(
      actionsOf(input),
      lost.map((record) => `settle-instance ${nameOf(record)}`),
    );
  });

  test("those that failed are tried again, also in the place of a spare, and none is made beside", () => {
    const since = secondsAgo(0);
    const failed = [2, 3].map((offset) => seen(anInstance("web", offset, "failed", { since })));
    const input = observed([pool], failed);
    assert.deepEqual(actionsOf(input), []);
    assert.deepEqual(
      plan(input).held.map(({ reason }) => reason),
      ["backoff", "backoff"],
    );
  });
});

describe("what is pinned or critical", () => {
  const [older, newer] = [anInstance("web", 2, "running"), anInstance("web", 3, "running")];
  const members = [seen(older), seen(newer)];
  const tenant = aTenant({ pinned: true });

  test("a pinned tenant's surplus is not stopped", () => {
    const input = observed([aPool("web", { running: 1 })], members, { tenant });
    assert.deepEqual(actionsOf(input), []);
    assert.deepEqual(heldOf(input), [`pinned ${nameOf(newer)}`]);
  });

  test("a pinned tenant's warm surplus is not stopped either", () => {
    const warm = anInstance("web", 4, "warm");
    const input = observed([aPool("web")], [seen(warm)], { tenant });
    assert.deepEqual(actionsOf(input), []);
    assert.deepEqual(heldOf(input), [`pinned ${nameOf(warm)}`]);
  });

  test("a pinned pool's surplus is stopped and not put aside as a spare", () => {
    const pool = aPool("web", { running: 1, warm: 1, pinned: true });
    assert.deepEqual(actionsOf(observed([pool], members)), [
      "create-instance acme/web",
      `stop-instance ${nameOf(newer)}`,
    ]);
  });

  test("a critical pool's surplus is neither stopped nor warmed, and no spare is made", () => {
    const pool = aPool("web", { running: 1, warm: 1, critical: true });
    const input = observed([pool], members);
    assert.deepEqual(actionsOf(input), []);
    assert.deepEqual(heldOf(input), ["critical acme/web", `critical ${nameOf(newer)}`]);
  });

  test("a critical pool's instances are made and repaired", () => {
    const failed = anInstance("web", 4, "failed");
    const pool = aPool("web", { running: 2, critical: true });
    assert.deepEqual(actionsOf(observed([pool], [seen(failed)])), [
      `start-instance ${nameOf(failed)}`,
      "create-instance acme/web",
    ]);
  });
});

describe("gateways", () => {
  const gateways = aPool("zz-gateways", { role: "gateway", running: 1 });
  const workers = aPool("aa-workers", { running: 1 });
  const gateway = anInstance("zz-gateways", 2, "running");
  const worker = anInstance("aa-workers", 3, "ready");

  test("are planned before all other roles", () => {
    const pools = [
      aPool("a", { role: "capability-x", running: 1 }),
      aPool("b", { role: "worker", running: 1 }),
      aPool("c", { role: "builder", running: 1 }),
      aPool("d", { role: "gateway", running: 0 }),
      aPool("e", { role: "gateway", revisions: [], running: 1 }),
    ];
    const images = pools.map((pool) => ({ ...pool, revisions: [] }));
    assert.deepEqual(actionsOf(observed(images, [])), [
      "build-image acme/e",
      "build-image acme/c",
      "build-image acme/b",
      "build-image acme/a",
    ]);
  });

  test("hold workers back until they serve", () => {
    const input = observed([workers, gateways], [seen(worker)]);
    assert.deepEqual(actionsOf(input), ["create-instance acme/zz-gateways"]);
    assert.deepEqual(heldOf(input), ["waiting-for-gateway acme/aa-workers"]);
  });

  test("that run and are not healthy yet hold workers back too", () => {
    const input = observed(
      [workers, gateways],
      [seen(gateway, { health: "starting" }), seen(worker)],
    );
    assert.ok(heldOf(input).includes("waiting-for-gateway acme/aa-workers"));
    assert.ok(!actionsOf(input).includes(`start-instance ${nameOf(worker)}`));
  });

  test("that serve let workers start", () => {
    const input = observed([workers, gateways], [seen(gateway), seen(worker)]);
    assert.deepEqual(actionsOf(input), [`start-instance ${nameOf(worker)}`]);
    assert.deepEqual(heldOf(input), []);
  });

  test("that are not wanted to run hold nobody back", () => {
    const input = observed([workers, aPool("zz-gateways", { role: "gateway" })], [seen(worker)]);
    assert.deepEqual(actionsOf(input), [`start-instance ${nameOf(worker)}`]);
  });
});

describe("an instance that an operator moved by hand", () => {
  test("is neither started nor stopped nor parked until its time is over, and that is said", () => {
    const running = anInstance("web", 2, "running", { overrideUntil });
    const stopped = anInstance("web", 3, "stopped", { overrideUntil });
    const warm = anInstance("web", 4, "warm", { overrideUntil });
    const members = [seen(running), seen(stopped), seen(warm)];
    const surplus = observed([aPool("web")], members);
    assert.deepEqual(actionsOf(surplus), []);
    assert.deepEqual(
      heldOf(surplus),
      members.map(({ record }) => `manual-override ${nameOf(record)}`),
    );
    const deficit = observed([aPool("web", { running: 2 })], members);
    assert.deepEqual(actionsOf(deficit), ["create-instance acme/web"]);
  });

  test("is planned like any other once its time is over", () => {
    const running = anInstance("web", 2, "running", { overrideUntil: secondsAgo(0) });
    assert.deepEqual(actionsOf(observed([aPool("web")], [seen(running)])), [
      `stop-instance ${nameOf(running)}`,
    ]);
  });
});

describe("an instance that failed", () => {
  const pool = aPool("web", { running: 1 });

  test("is started again after its backoff", () => {
    const failed = anInstance("web", 2, "failed", { failures: 1, since: secondsAgo(1) });
    assert.deepEqual(actionsOf(observed([pool], [seen(failed)])), [
      `start-instance ${nameOf(failed)}`,
    ]);
  });

  test("waits for its backoff, with its cause, and no other is made in its place", () => {
    const failed = anInstance("web", 2, "failed", { failures: 3, since: secondsAgo(3.5) });
    const { actions, held } = plan(observed([pool], [seen(failed)]));
    assert.deepEqual(actions, []);
    assert.deepEqual(held, [
      {
        object: nameOf(failed),
        reason: "backoff",
        detail: "it failed 3 times in a row: its VMM is gone",
        untilMs: nowMs + 500,
      },
    ]);
  });

  test("does not hold up other pools", () => {
    const failed = anInstance("web", 2, "failed", { failures: 9, since: secondsAgo(1) });
    const other = anInstance("other", 3, "ready");
    const input = observed([pool, aPool("other", { running: 1 })], [seen(failed), seen(other)]);
    assert.deepEqual(actionsOf(input), [`start-instance ${nameOf(other)}`]);
  });

  test("waits 1 s after the first failure, twice as long after each more, and 10 min at the most", () => {
    const waits = [1, 2, 3, 9, 10, 11, 12, 1000].map((failures) => backoffEndsMs(5, failures) - 5);
    assert.deepEqual(waits, [1000, 2000, 4000, 256_000, 512_000, 600_000, 600_000, 600_000]);
  });
});

describe("an instance that is not as recorded", () => {
  const pool = aPool("web", { running: 1 });
  const operation = { kind: "start", started_at: secondsAgo(60), step: "vmm" } as const;

  for (const [name, member] of [
    ["runs by record and has no VMM", seen(anInstance("web", 2, "running"), { vmm: "none" })],
    [
      "runs under another VMM than recorded",
      seen(anInstance("web", 2, "running"), { vmm: "other" }),
    ],
    ["is stopped by record and has a VMM", seen(anInstance("web", 2, "stopped"), { vmm: "other" })],
    ["has an operation that nobody works on", seen(anInstance("web", 2, "ready", { operation }))],
    [
      "was moved by hand and lost its VMM",
      seen(anInstance("web", 2, "warm", { overrideUntil }), { vmm: "none" }),
    ],
  ] as const) {
    test(`and ${name} is settled before anything else is planned for it`, () => {
      assert.deepEqual(actionsOf(observed([pool], [member])), [
        `settle-instance ${nameOf(member.record)}`,
      ]);
    });
  }

  test("is settled also when its pool wants nothing of it", () => {
    const member = seen(anInstance("web", 2, "ready", { operation }));
    assert.deepEqual(actionsOf(observed([aPool("web")], [member])), [
      `settle-instance ${nameOf(member.record)}`,
    ]);
  });
});

describe("a tenant", () => {
  test("that is being destroyed is left alone, and how to finish is said", () => {
    const destroying = aTenant({ destroying: true });
    const members = [seen(anInstance("web", 2, "running"), { vmm: "none" })];
    const input = observed([aPool("web", { running: 3 })], members, { tenant: destroying });
    assert.deepEqual(actionsOf(input), []);
    assert.deepEqual(heldOf(input), ["tenant-is-being-destroyed acme"]);
  });

  test("whose network does not stand gets it before anything else", () => {
    const input = observed([aPool("web", { running: 1 })], [], { networkReady: false });
    assert.deepEqual(actionsOf(input), ["ensure-network acme", "create-instance acme/web"]);
  });

  test("without pools needs no network", () => {
    assert.deepEqual(actionsOf(observed([], [], { networkReady: false })), []);
  });
});

describe("a pool", () => {
  test("without an image gets one before it gets instances", () => {
    const input = observed([aPool("web", { running: 2, revisions: [] })], []);
    assert.deepEqual(actionsOf(input), ["build-image acme/web"]);
  });

  test("that wants no instances needs no image", () => {
    assert.deepEqual(actionsOf(observed([aPool("web", { revisions: [] })], [])), []);
  });

  test("that wants sleepers where the host keeps no snapshots is told so", () => {
    const input = observed([aPool("web", { sleeping: 1 })], []);
    assert.deepEqual(heldOf(input), ["not-supported acme/web"]);
  });

  test("that is as wanted plans nothing and holds nothing", () => {
    const members = [
      seen(anInstance("web", 2, "running")),
      seen(anInstance("web", 3, "running")),
      seen(anInstance("web", 4, "warm")),
      seen(anInstance("web", 5, "stopped")),
    ];
    const input = observed([aPool("web", { running: 2, warm: 1 })], members);
    assert.deepEqual(plan(input), { actions: [], held: [] });
  });
});

test("a thousand tenants of ten pools with ten instances each are planned, and the input is left as it was", () => {
  const pools = Array.from({ length: 10 }, (_, index) => aPool(`p${index}`, { running: 11 }));
  const quotas = { max_vcpus: 1e6, max_mem_mib: 1e9, max_running: 1e6 };
  const tenants = Array.from({ length: 1000 }, (_, number) => {
    const tenant_id = parseTenantId(`t${number}`);
    const instances = pools.flatMap(({ pool_id }, pool) =>
      Array.from({ length: 10 }, (_, index) =>
        seen({ ...anInstance(pool_id, 2 + pool * 10 + index, "running"), tenant_id }),
      ),
    );
    return {
      tenant: { ...aTenant({ quota: quotas }), tenant_id },
      pools: pools.map((pool) => Object.freeze({ ...pool, tenant_id })),
      networkReady: true,
      instances: instances.map((member) => Object.freeze(member)),
    };
  });
  const input = { tenants, capabilities: { memorySnapshot: false }, startingVcpus: 100_000, nowMs };
  const { actions } = plan(Object.freeze(input));
  // Each pool has ten of eleven.
  assert.equal(actions.length, 10_000);
  assert.equal(new Set(actions.map(objectOf)).size, 10_000);
});
