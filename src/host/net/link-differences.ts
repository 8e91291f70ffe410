import { vmUid } from "../../domain/address-plan.ts";
import type { NetworkDifference, NetworkPort, TenantNetworkState } from "../../ports/network.ts";
import { type Link, bridgeMac, isOurs } from "./links.ts";

/** The command that makes the network what the records say. */
export const repairCommand = "mvm net repair";

export interface LinkExpectations {
  readonly portKinds: readonly string[];
  readonly vmUidBase: number;
  /** Links that no tenant names are no difference: not every record could be read. */
  readonly keepUnknown: boolean;
}

/** Where the links of this namespace are not those of `tenants`: bridges, addresses, ports and who may use them. */
export function linkDifferences(
  observed: readonly Link[],
  tenants: readonly TenantNetworkState[],
  expectations: LinkExpectations,
): NetworkDifference[] {
  const byName = new Map(observed.map((link) => [link.name, link]));
  const wanted = new Set(
    tenants.flatMap(({ network, ports }) => [network.bridge, ...ports.map(({ tap }) => tap)]),
  );
  const unknown = observed
    .filter((link) => isOurs(link, expectations.portKinds) && !wanted.has(link.name))
    .map((link) => difference("link", link.name, "no record asks for it"));
  return [
    ...tenants.flatMap((tenant) => [
      ...bridgeDifferences(byName.get(tenant.network.bridge), tenant),
      ...tenant.ports.flatMap((port) =>
        portDifferences(byName.get(port.tap), tenant, port, expectations),
      ),
    ]),
    ...(expectations.keepUnknown ? [] : unknown),
  ];
}

function bridgeDifferences(
  link: Link | undefined,
  { tenantId, network }: TenantNetworkState,
): NetworkDifference[] {
  const name = network.bridge;
  if (link === undefined) return [difference("link", name, `tenant ${tenantId} has no bridge`)];
  if (link.kind !== "bridge") return [difference("link", name, "is not a bridge")];
  const differences: NetworkDifference[] = [];
  const mac = bridgeMac(network.netId);
  if (link.mac !== mac)
    differences.push(difference("link", name, `has the MAC ${link.mac}, not ${mac}`));
  if (!link.up) differences.push(difference("link", name, "is down"));
  const address = `${network.gatewayIp}/24`;
  if (!link.addresses.includes(address)) {
    differences.push(difference("address", name, `lacks its address ${address}`));
  }
  for (const other of link.addresses.filter((found) => found !== address)) {
    differences.push(difference("address", name, `has an address that is not its own: ${other}`));
  }
  return differences;
}

function portDifferences(
  link: Link | undefined,
  { network }: TenantNetworkState,
  port: NetworkPort,
  { portKinds, vmUidBase }: LinkExpectations,
): NetworkDifference[] {
  const name = port.tap;
  if (link === undefined) return [difference("tap", name, `${port.owner} has no TAP`)];
  if (link.kind === undefined || !portKinds.includes(link.kind)) {
    return [difference("tap", name, "is not a TAP")];
  }
  const differences: NetworkDifference[] = [];
  if (link.master !== network.bridge) {
    const place = link.master === undefined ? "on no bridge" : `on ${link.master}`;
    differences.push(difference("tap", name, `is ${place}, not on ${network.bridge}`));
  }
  if (!link.up) differences.push(difference("tap", name, "is down"));
  for (const address of link.addresses) {
    differences.push(difference("address", name, `has an address, and must have none: ${address}`));
  }
  const uid = vmUid(vmUidBase, network.netId, port.offset);
  if (link.tap !== undefined && (link.tap.user !== uid || !link.tap.exclusive)) {
    const user = link.tap.user === undefined ? "anyone" : `uid ${link.tap.user}`;
    const who = link.tap.exclusive ? user : "several programs at once";
    // Its user can only be changed while no VMM has it.
    differences.push({
      ...difference(
        "tap",
        name,
        `can be opened by ${who}, not by uid ${uid} of ${port.owner} alone`,
      ),
      repair: `mvm instance stop ${port.owner} && mvm instance start ${port.owner}`,
    });
  }
  return differences;
}

function difference(
  part: NetworkDifference["part"],
  name: string,
  problem: string,
): NetworkDifference {
  return { part, name, problem, repair: repairCommand };
}
