import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { parsePoolAddress, parseTenantId } from "../../src/domain/ids.ts";
import { addressOf } from "../../src/domain/instance.ts";
import { RemoteDrives, RemoteLogs } from "../../src/host/hostd/remote-drives.ts";
import { RemoteImageBuilder, RemoteImages } from "../../src/host/hostd/remote-images.ts";
import { RemoteTenantKeys } from "../../src/host/hostd/remote-keys.ts";
import { RemoteNetwork } from "../../src/host/hostd/remote-network.ts";
import { RemoteVmm } from "../../src/host/hostd/remote-vmm.ts";
import type { NodeContext } from "../../src/node/context.ts";
import { hostdHandlers } from "../../src/node/hostd/handlers.ts";
import { Turns } from "../../src/node/hostd/turns.ts";
import { NodeOperations } from "../../src/node/operations.ts";
import type { TenantNetworkState } from "../../src/ports/network.ts";
import { HostdLink } from "../builders/hostd-link.ts";
import { FakeHost } from "../fakes/fake-host.ts";
import { helloPool } from "./hello-pool.ts";

const acme = parseTenantId("acme");
const web = parsePoolAddress("acme/web");
const roots = { stateDir: "/state", configDir: "/etc", runDir: "/run" };

/** hostd on a host in memory, at a real socket. */
async function hostdOn(host: FakeHost): Promise<HostdLink> {
  const ports = host.context();
  let applied: readonly TenantNetworkState[] = [];
  return HostdLink.make(
    hostdHandlers({
      ...ports,
      settings: { vmUidBase: 1_000_000, instanceRunRoot: "/run/i" },
      network: {
        ...ports.network,
        apply: async (tenants, options) => {
          await ports.network.apply(tenants, options);
          applied = tenants;
        },
      },
      applied: async () => applied,
      // Names of builds are hashes on a real host.
      builder: {
        ...ports.builder,
        key: async (request) =>
          createHash("sha256")
            .update(await ports.builder.key(request))
            .digest("hex"),
      },
      drives: {
        ...ports.drives,
        folders: (instance) => ports.drives.folders(instance),
        paths: () => ({ config: "config", secrets: "secrets", data: "data" }),
        ensureFolders: async () => undefined,
        hasFolders: async () => true,
      },
      inventory: { found: () => assert.fail("the engine does not ask what is left over") },
      folders: { make: async () => undefined, remove: async () => undefined },
      netIds: { use: async () => new Set<number>() },
      requireFlake: async () => undefined,
      requirePromises: async () => undefined,
      guestTurn: async () => async () => undefined,
      turns: new Turns(),
    }),
  );
}

/** The engine's ports on the same host, with all that needs root behind the socket. */
function through({ client }: HostdLink, host: FakeHost): NodeContext {
  const local = host.context();
  return {
    ...local,
    vmm: new RemoteVmm(client, local.vmm.capabilities, "/run/i"),
    drives: new RemoteDrives(client, roots),
    network: new RemoteNetwork(client),
    builder: new RemoteImageBuilder(client),
    images: new RemoteImages(client, local.images),
    keys: new RemoteTenantKeys(client),
    logs: new RemoteLogs(client),
  };
}

/** A life of a tenant: made, built, scaled, parked, failed, repaired, and destroyed. @returns what the records said at each step. */
async function live(host: FakeHost, context: NodeContext): Promise<unknown[]> {
  const node = new NodeOperations(context);
  const seen: unknown[] = [];
  const look = (): void => {
    const { tenants } = host.records();
    seen.push(
      tenants.map(({ tenant, pools, instances }) => ({
        tenant: tenant.tenant_id,
        revisions: pools.map(({ revisions }) => revisions),
        instances: instances.map(({ instance_id, net_offset, state, operation, failures }) => ({
          instance_id,
          net_offset,
          status: state.status,
          operation,
          failures,
        })),
      })),
      [...host.taps].toSorted(),
      [...host.runFolders].toSorted(),
      [...host.volumes].toSorted(),
      host.living().map(({ id, paused }) => `${id} ${paused}`),
    );
  };
  await node.createTenant({ tenant: acme });
  await node.createPool(helloPool(web));
  await node.scalePool(web, { running: 2, warm: 1 });
  look();
  const [first] = host.records().tenants[0]?.instances ?? [];
  assert.ok(first);
  await node.warmInstance(addressOf(first));
  look();
  await node.wakeInstance(addressOf(first));
  const lost = host.living()[1];
  assert.ok(lost);
  lost.alive = false;
  await node.scalePool(web, { running: 2, warm: 1 });
  look();
  await node.stopInstance(addressOf(first));
  look();
  await node.destroyTenant(acme, { force: true, wipe: true });
  look();
  return seen;
}

test("the engine cannot tell whether what needs root is done in its own process or by hostd", async () => {
  const here = new FakeHost();
  const there = new FakeHost();
  await using link = await hostdOn(there);
  const expected = await live(here, here.context());
  assert.deepEqual(await live(there, through(link, there)), expected);
  assert.deepEqual(there.violations, []);
  assert.deepEqual(here.violations, []);
});
