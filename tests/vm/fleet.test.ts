import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { after, before, suite, test } from "node:test";
import { type FleetNode, FleetUnderTest } from "../hosts/fleet-under-test.ts";

const minutes = 60_000;

interface Listed {
  readonly address: string;
  readonly status: string;
  readonly pid: number | null;
}

/** The document of the onboarding guide, but for its flake, its sizes and what a test asks for. */
function aDocument(
  options: {
    readonly running?: number;
    readonly warm?: number;
    readonly memMib?: number;
    readonly withWorkers?: boolean;
    readonly tenants?: "none";
  } = {},
): object {
  const { running = 2, warm = 1, memMib = 256, withWorkers = true } = options;
  const pool = (pool_id: string, role: string, counts: object, data_disk_mib: number): object => ({
    pool_id,
    flake_ref: "builtin:hello",
    profile: "minimal",
    role,
    instance_resources: { vcpus: 1, mem_mib: role === "worker" ? memMib : 256, data_disk_mib },
    desired_counts: counts,
  });
  const workers = pool("workers", "worker", { running, warm, sleeping: 0 }, 64);
  const tenant = {
    tenant_id: "myapp",
    network: { tenant_net_id: 1, ipv4_subnet: "10.240.1.0/24" },
    quotas: {
      max_vcpus: 32,
      max_mem_mib: 65_536,
      max_running: 16,
      max_warm: 8,
      max_pools: 10,
      max_instances_per_pool: 32,
      max_disk_gib: 500,
    },
    pools: [
      pool("gateways", "gateway", { running: 1, warm: 0, sleeping: 0 }, 0),
      ...(withWorkers ? [workers] : []),
    ],
  };
  return {
    schema_version: 1,
    node_id: "local",
    tenants: options.tenants === "none" ? [] : [tenant],
    prune_unknown_tenants: true,
    prune_unknown_pools: true,
  };
}

/** Real microVMs on two nodes, each in a network namespace, and a coordinator in a third. */
suite("a fleet of two nodes", { timeout: 25 * minutes }, () => {
  let folder = "";
  let fleet: FleetUnderTest;

  before(async () => {
    folder = await mkdtemp("/tmp/mvm-fleet-");
    fleet = await FleetUnderTest.make(folder, 2);
  });
  after(async () => {
    await fleet?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true });
  });

  async function instances(node: FleetNode): Promise<Listed[]> {
    return JSON.parse(await fleet.on(node, "instance", "list", "--json")) as Listed[];
  }

  /** What is up, by pool; surplus was stopped and waits to be started again. */
  async function counts(node: FleetNode): Promise<string[]> {
    return (await instances(node))
      .filter(({ status }) => status !== "stopped")
      .map(({ address, status }) => `${address.split("/")[1] ?? ""} ${status}`)
      .toSorted();
  }

  const full = ["gateways running", "workers running", "workers running", "workers warm"];

  test("builds, boots and reports both nodes converged by one push", async () => {
    const said = await fleet.push(aDocument());
    assert.equal(said.match(/generation 1, [0-9a-f]{12} is in force; converged/g)?.length, 2, said);
    for (const node of fleet.nodes) assert.deepEqual(await counts(node), full);
  });

  test("shows each node's state in a table", async () => {
    const table = await fleet.mvm("coordinator", "status", ...fleet.all);
    const rows = table.trim().split("\n");
    assert.equal(rows.length, 3, table);
    for (const row of rows.slice(1)) assert.match(row, / converged +1 +3\/3 /);
  });

  test("plans nothing for the same document, and starts nothing anew", async () => {
    const before = await Promise.all(fleet.nodes.map(instances));
    const said = await fleet.push(aDocument());
    assert.equal(said.match(/generation 1, .* was in force already; converged/g)?.length, 2, said);
    const plan = await fleet.mvm("coordinator", "plan", ...fleet.all);
    assert.equal(plan.match(/nothing to do/g)?.length, 2, plan);
    assert.deepEqual(await Promise.all(fleet.nodes.map(instances)), before);
  });

  test("loses no microVM and starts none twice when a daemon is killed", async () => {
    const [node] = fleet.nodes;
    assert.ok(node);
    const before = await instances(node);
    await fleet.stop(node, "SIGKILL");
    await fleet.start(node);
    assert.match(await fleet.push(aDocument()), /converged/);
    assert.deepEqual(await instances(node), before);
  });

  test("scales by a push, and renews certificates meanwhile", async () => {
    const pushed = fleet.push(aDocument({ running: 1, warm: 0 }));
    const renewed = await fleet.mvm("coordinator", "ca", "renew", ...fleet.all);
    assert.equal(renewed.match(/certificate [0-9a-f]+ until/g)?.length, 2, renewed);
    assert.match(await pushed, /generation 2, .* converged/);
    for (const node of fleet.nodes) {
      assert.deepEqual(await counts(node), ["gateways running", "workers running"]);
    }
    await fleet.mvm("coordinator", "status", ...fleet.all);
  });

  test("replaces instances when their size is changed", async () => {
    const pids = async (): Promise<(number | null)[][]> =>
      Promise.all(
        fleet.nodes.map(async (node) =>
          (await instances(node)).flatMap(({ address, pid }) =>
            address.includes("/workers/") ? [pid] : [],
          ),
        ),
      );
    const before = await pids();
    await fleet.push(aDocument({ running: 1, warm: 0, memMib: 320 }));
    const after = await pids();
    assert.notDeepEqual(after, before);
    for (const node of fleet.nodes) {
      assert.deepEqual(await counts(node), ["gateways running", "workers running"]);
    }
  });

  test("prunes a pool and then a tenant that the document names no more", async () => {
    await fleet.push(aDocument({ withWorkers: false }));
    for (const node of fleet.nodes) assert.deepEqual(await counts(node), ["gateways running"]);
    await fleet.push(aDocument({ tenants: "none" }));
    for (const node of fleet.nodes) assert.deepEqual(await instances(node), []);
    for (const node of fleet.nodes) assert.equal(await fleet.stop(node, "SIGTERM"), 0);
  });
});
