import assert from "node:assert/strict";
import { test } from "node:test";
import { instanceNetwork, tenantNetwork } from "../../../src/domain/address-plan.ts";
import { ConflictError, NotTrustedError, UsageError } from "../../../src/domain/errors.ts";
import { parseInstanceAddress, parseInstanceId, parseTenantId } from "../../../src/domain/ids.ts";
import type { Machine } from "../../../src/domain/machine.ts";
import { PromiseLackingError, requireKept } from "../../../src/domain/production.ts";
import type { HostdContext } from "../../../src/node/hostd/context.ts";
import { hostdHandlers } from "../../../src/node/hostd/handlers.ts";
import { Turns } from "../../../src/node/hostd/turns.ts";
import type { HostdCall, HostdHandlers } from "../../../src/ports/hostd.ts";
import type { TenantNetworkState } from "../../../src/ports/network.ts";
import type { VmmProcess, VmmSpec } from "../../../src/ports/vmm.ts";
import { productionFindings } from "../../builders/production-findings.ts";
import { FakeHost } from "../../fakes/fake-host.ts";

const own = parseInstanceAddress("acme/web/i-0000000a");
const other = parseInstanceAddress("zeta/db/i-0000000b");
const revision = "a".repeat(64);
const open = { mode: "open" } as const;

function machineOf(changes: Partial<Machine> = {}): Machine {
  return {
    instance: own,
    netId: 1,
    offset: 2,
    vcpus: 1,
    memMib: 256,
    revision,
    hasConfig: true,
    hasData: true,
    ...changes,
  };
}

const call: HostdCall = {
  cancelled: new AbortController().signal,
  unwanted: new AbortController().signal,
  progress: () => undefined,
  afterAnswer: () => undefined,
};

interface UnderTest {
  readonly handlers: HostdHandlers;
  readonly living: VmmProcess[];
  readonly started: VmmSpec[];
  readonly stopped: VmmProcess[];
  readonly done: string[];
}

/** hostd's handlers on a host in memory. `changes` stand in for parts of it. */
function hostd(changes: Partial<HostdContext> = {}): UnderTest {
  const { builder, images, keys, logs, meters, vmm, network, drives } = new FakeHost().context();
  const living: VmmProcess[] = [];
  const started: VmmSpec[] = [];
  const stopped: VmmProcess[] = [];
  const done: string[] = [];
  let applied: readonly TenantNetworkState[] = [];
  const context: HostdContext = {
    settings: { vmUidBase: 1_000_000, instanceRunRoot: "/run/i" },
    builder,
    keys,
    logs,
    meters,
    images: {
      ...images,
      files: async (hash) => ({
        kernel: `/images/${hash}/kernel`,
        initrd: `/images/${hash}/initrd`,
        rootfs: `/images/${hash}/rootfs.ext4`,
      }),
    },
    vmm: {
      ...vmm,
      list: async () => living,
      start: async (spec) => {
        started.push(spec);
        const made = { id: spec.id, runDir: spec.runDir, pid: 500 + started.length, startTicks: 7 };
        living.push(made);
        return made;
      },
      stop: async (process) => {
        stopped.push(process);
      },
      resume: async ({ id }) => {
        done.push(`resume ${id}`);
      },
    },
    network: {
      ...network,
      apply: async (tenants) => {
        applied = tenants;
      },
    },
    applied: async () => applied,
    drives: {
      ...drives,
      prepare: async (request) => {
        done.push(`prepare ${request.instance.instance}`);
        return { config: "c", secrets: "s", data: undefined };
      },
      release: async ({ instance }) => {
        done.push(`release ${instance}`);
      },
      paths: ({ instance }) => ({
        config: `/v/${instance}/config.ext4`,
        secrets: `/run/i/${instance}/secrets.ext4`,
        data: `/v/${instance}/data.ext4`,
      }),
      ensureFolders: async () => undefined,
      hasFolders: async () => true,
    },
    inventory: { found: () => assert.fail("nobody asks what is left over") },
    folders: { make: async () => undefined, remove: async () => undefined },
    netIds: { use: async () => new Set<number>() },
    requireFlake: async () => undefined,
    requirePromises: async () => undefined,
    guestTurn: async () => async () => undefined,
    turns: new Turns(),
    ...changes,
  };
  return { handlers: hostdHandlers(context), living, started, stopped, done };
}

function apply(
  { handlers }: UnderTest,
  ...tenants: readonly {
    readonly of: typeof own;
    readonly netId: number;
    readonly offset?: number;
  }[]
): Promise<unknown> {
  return handlers.NetworkApply(
    {
      tenants: tenants.map(({ of, netId, offset = 2 }) => ({
        tenant: of.tenant,
        netId,
        ports: [{ offset, owner: of, serves: true, egress: open }],
      })),
      keepUnknown: false,
    },
    call,
  );
}

test("a VMM's user, paths, TAP and kernel words follow from its instance's names and numbers", async () => {
  const under = hostd();
  await apply(under, { of: own, netId: 1 });
  await under.handlers.VmmStart({ machine: machineOf(), adopt: false }, call);
  const [spec] = under.started;
  assert.equal(spec?.uid, 1_000_000 + 256 + 2);
  assert.equal(spec?.runDir, "/run/i/i-0000000a");
  assert.equal(spec?.kernelPath, `/images/${revision}/kernel`);
  assert.deepEqual(spec?.nics, [{ tap: "tn1i2", mac: instanceNetwork(1, 2).mac }]);
  assert.deepEqual(
    spec?.drives.map(({ id, path, readOnly }) => [id, path, readOnly]),
    [
      ["rootfs", `/images/${revision}/rootfs.ext4`, true],
      ["config", "/v/i-0000000a/config.ext4", true],
      ["secrets", "/run/i/i-0000000a/secrets.ext4", true],
      ["data", "/v/i-0000000a/data.ext4", false],
    ],
  );
  assert.ok(spec?.kernelArgs.includes(`mvm.gateway=${tenantNetwork(1).gatewayIp}`));
});

test("nothing is started behind no network, nor on another instance's port", async () => {
  const under = hostd();
  const start = (machine: Machine): Promise<unknown> =>
    under.handlers.VmmStart({ machine, adopt: false }, call);
  await assert.rejects(start(machineOf()), ConflictError);
  await apply(under, { of: own, netId: 1 }, { of: other, netId: 2 });
  await assert.rejects(start(machineOf({ netId: 2 })), /has no port tn2i2/);
  await assert.rejects(start(machineOf({ offset: 3 })), /has no port tn1i3/);
  await assert.rejects(start(machineOf({ instance: other })), /has no port tn1i2/);
  assert.equal(under.started.length, 0);
});

test("an instance that has a VMM gets no second one, also when two ask at once", async () => {
  const under = hostd();
  await apply(under, { of: own, netId: 1 });
  const ask = (): Promise<unknown> =>
    under.handlers.VmmStart({ machine: machineOf(), adopt: false }, call);
  const ends = await Promise.allSettled([ask(), ask(), ask()]);
  assert.equal(ends.filter(({ status }) => status === "fulfilled").length, 1);
  assert.equal(under.started.length, 1);
});

test("asking again after hostd died answers the VMM that the first try made", async () => {
  const under = hostd();
  await apply(under, { of: own, netId: 1 });
  const first = await under.handlers.VmmStart({ machine: machineOf(), adopt: false }, call);
  const again = await under.handlers.VmmStart({ machine: machineOf(), adopt: true }, call);
  assert.deepEqual(again, first);
  assert.equal(under.started.length, 1);
  assert.deepEqual(under.done, ["resume i-0000000a"], "it answers once its vCPUs run");
});

test("a pid that is none of mvm's VMMs is never signalled", async () => {
  const under = hostd();
  under.living.push({ id: own.instance, runDir: "/run/i/i-0000000a", pid: 700, startTicks: 5 });
  const names = [
    { id: own.instance, pid: 701, startTicks: 5 },
    { id: own.instance, pid: 700, startTicks: 6 },
    { id: other.instance, pid: 700, startTicks: 5 },
  ];
  for (const vmm of names) {
    await under.handlers.VmmStop({ vmm, graceMs: 0 }, call);
    await assert.rejects(under.handlers.VmmPause({ vmm }, call), /is gone/);
    await assert.rejects(under.handlers.GuestChannel({ vmm }, call), /is gone/);
    await assert.rejects(under.handlers.GuestTurn({ vmm, waitMs: 1 }, call), /is gone/);
  }
  assert.deepEqual(
    under.stopped.map(({ pid, startTicks }) => [pid, startTicks]),
    names.map(() => [0, -1]),
    "what is stopped has the identity of no process",
  );
  const vmm = { id: own.instance, pid: 700, startTicks: 5 };
  await under.handlers.VmmStop({ vmm, graceMs: 0 }, call);
  assert.equal(under.stopped.at(-1)?.pid, 700);
});

test("drives are neither made anew nor removed under a VMM that lives", async () => {
  const under = hostd();
  under.living.push({ id: own.instance, runDir: "/run/i/i-0000000a", pid: 700, startTicks: 5 });
  const config = {
    schema_version: 1,
    tenant_id: "acme",
    pool_id: "web",
    instance_id: "i-0000000a",
    role: "worker",
    guest_ip: "10.240.1.2",
    gateway_ip: "10.240.1.1",
    resources: { vcpus: 1, mem_mib: 256, data_disk_mib: 0 },
    integrations: [],
    gateway_routes: [],
  } as const;
  const request = { instance: own, dataDiskMib: 0, config, secrets: [] };
  await assert.rejects(under.handlers.DrivesPrepare(request, call), ConflictError);
  await assert.rejects(
    under.handlers.DrivesRelease({ instance: own.instance }, call),
    ConflictError,
  );
  const destroy = under.handlers.DrivesDestroy({ instance: own, wipe: true }, call);
  await assert.rejects(destroy, ConflictError);
  assert.deepEqual(under.done, []);
  under.living.pop();
  const foreign = { ...request, config: { ...config, tenant_id: "zeta" } };
  await assert.rejects(under.handlers.DrivesPrepare(foreign, call), UsageError);
  await under.handlers.DrivesPrepare(request, call);
  assert.deepEqual(under.done, ["prepare i-0000000a"]);
});

test("while a VMM lives nobody else gets its tenant's network, or its port", async () => {
  const under = hostd();
  await apply(under, { of: own, netId: 1 });
  await under.handlers.VmmStart({ machine: machineOf(), adopt: false }, call);
  await assert.rejects(apply(under, { of: other, netId: 1 }), /net id 1 is acme's/);
  await assert.rejects(apply(under, { of: other, netId: 1, offset: 9 }), /net id 1 is acme's/);
  const sibling = parseInstanceAddress("acme/web/i-0000000c");
  await assert.rejects(apply(under, { of: sibling, netId: 1 }), /tn1i2 is acme\/web\/i-0000000a's/);
  await apply(under, { of: own, netId: 1 }, { of: other, netId: 2 });
  under.living.pop();
  await apply(under, { of: other, netId: 1 });
});

test("a port belongs to an instance of the network's own tenant", async () => {
  const under = hostd();
  await assert.rejects(
    under.handlers.NetworkApply(
      {
        tenants: [
          {
            tenant: parseTenantId("acme"),
            netId: 1,
            ports: [{ offset: 2, owner: other, serves: false, egress: open }],
          },
        ],
        keepUnknown: false,
      },
      call,
    ),
    UsageError,
  );
});

test("while a promise of production is lacking hostd starts and builds nothing, whatever agentd thinks of it", async () => {
  const under = hostd({
    requirePromises: async () => requireKept(productionFindings(new Map([["audit", "no key"]])), 0),
    builder: new Proxy({} as HostdContext["builder"], {
      get: () => () => assert.fail("nothing is built"),
    }),
  });
  await apply(under, { of: own, netId: 1 });
  const start = { machine: machineOf(), adopt: false };
  await assert.rejects(under.handlers.VmmStart(start, call), /audit \(no key\)/);
  assert.equal(under.started.length, 0);
  const build = { ...aBuild, flakeRef: "builtin:hello" };
  await assert.rejects(under.handlers.Build({ build }, call), PromiseLackingError);
  under.living.push({ id: own.instance, runDir: "/run/i/i-0000000a", pid: 700, startTicks: 5 });
  const vmm = { id: own.instance, pid: 700, startTicks: 5 };
  await under.handlers.VmmResume({ vmm }, call);
  await under.handlers.VmmStop({ vmm, graceMs: 0 }, call);
});

const aBuild = {
  flakeRef: "path:/root",
  profile: "minimal",
  role: "worker",
  timeoutMs: 1000,
  storeOf: null,
  network: false,
} as const;

test("a flake that hostd may not read is neither hashed nor built", async () => {
  const under = hostd({
    requireFlake: () => Promise.reject(new NotTrustedError("not for agentd")),
    builder: new Proxy({} as HostdContext["builder"], {
      get: () => () => assert.fail("nothing is read"),
    }),
  });
  const build = aBuild;
  await assert.rejects(under.handlers.BuildKey({ build }, call), NotTrustedError);
  await assert.rejects(under.handlers.Build({ build }, call), NotTrustedError);
});

test("only VMMs of instances are named: a builder's is hostd's own", async () => {
  const under = hostd();
  under.living.push(
    { id: own.instance, runDir: "/run/i/i-0000000a", pid: 700, startTicks: 5 },
    { id: "b-0000000a", runDir: "/run/b/b-0000000a", pid: 701, startTicks: 5 },
  );
  const { vmms } = await under.handlers.VmmList({}, call);
  assert.deepEqual(vmms, [{ id: parseInstanceId("i-0000000a"), pid: 700, startTicks: 5 }]);
});
