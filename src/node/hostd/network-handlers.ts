import { instanceNetwork, tenantNetwork } from "../../domain/address-plan.ts";
import { ConflictError, UsageError } from "../../domain/errors.ts";
import { formatInstance } from "../../domain/ids.ts";
import type { HostdHandlers } from "../../ports/hostd.ts";
import type { TenantNetworkState } from "../../ports/network.ts";
import type { TenantNames } from "../../protocol/hostd-objects.ts";
import { portNames } from "../networks.ts";
import type { HostdContext } from "./context.ts";
import { livingVmms } from "./vmm-handlers.ts";

type NetworkHandlers = Pick<
  HostdHandlers,
  "NetworkApply" | "NetworkInventory" | "NetworkVerify" | "NetworkProbe" | "NetIds"
>;

/** The name under which turns are taken for what tenants share. */
export const networkTurn = "network";

export function networkHandlers(context: HostdContext): NetworkHandlers {
  const { network, turns } = context;
  return {
    NetworkApply: ({ tenants, keepUnknown }) =>
      turns.of(networkTurn, async () => {
        const wanted = tenants.map(stateOf);
        await requireHeirless(context, wanted);
        await network.apply(wanted, { keepUnknown });
        return {};
      }),
    NetworkInventory: () => network.inventory(),
    NetworkVerify: async ({ tenants, keepUnknown }) => ({
      differences: await network.verify(tenants.map(stateOf), { keepUnknown }),
    }),
    NetworkProbe: () => turns.of(networkTurn, () => network.probe()),
    NetIds: ({ use }) =>
      turns.of(networkTurn, async () => ({
        used: [...(await context.netIds.use(use ?? undefined))],
      })),
  };
}

/** Bridge, addresses, names and owners follow from ids; a port belongs to an instance of its own tenant. */
function stateOf({ tenant, netId, ports }: TenantNames): TenantNetworkState {
  return {
    tenantId: tenant,
    network: tenantNetwork(netId),
    ports: ports.map(({ offset, owner, serves, egress }) => {
      if (owner.tenant !== tenant) {
        throw new UsageError(`${formatInstance(owner)} has no port on the network of ${tenant}`);
      }
      return {
        ...instanceNetwork(netId, offset),
        owner: formatInstance(owner),
        names: portNames(owner, serves),
        egress,
      };
    }),
  };
}

/** While a VMM lives, nobody else gets its tenant's network or its port. @throws ConflictError */
async function requireHeirless(
  context: HostdContext,
  wanted: readonly TenantNetworkState[],
): Promise<void> {
  const living = new Set((await livingVmms(context)).map(({ id }) => id));
  if (living.size === 0) return;
  for (const { tenantId, network, ports } of await context.applied()) {
    const lives = ports.filter(({ owner }) => living.has(owner.split("/")[2] ?? ""));
    const [first] = lives;
    if (first === undefined) continue;
    const heir = wanted.find((other) => other.network.netId === network.netId);
    if (heir !== undefined && heir.tenantId !== tenantId) {
      throw new ConflictError(
        `net id ${network.netId} is ${tenantId}'s while ${first.owner} runs, and not ${heir.tenantId}'s`,
      );
    }
    for (const { tap, owner } of lives) {
      const other = heir?.ports.find((port) => port.tap === tap && port.owner !== owner);
      if (other !== undefined) {
        throw new ConflictError(`${tap} is ${owner}'s while that runs, and not ${other.owner}'s`);
      }
    }
  }
}
