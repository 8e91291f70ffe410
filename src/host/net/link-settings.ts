import { writeFile } from "node:fs/promises";
import type { TenantNetworkState } from "../../ports/network.ts";
import { readFileIfAny } from "../files.ts";

/** A setting of one link below /proc/sys/net, and the value it must have. */
export interface LinkSetting {
  readonly path: string;
  readonly value: string;
}

/**
 * Sets what `ip` cannot: no IPv6 on bridges and ports; a bridge answers ARP for its own address
 * alone and a port for none, so that a guest cannot ask which other networks the host has; a source
 * address must be routed back to where it came from. Done before a link is up.
 */
export async function applyLinkSettings(tenants: readonly TenantNetworkState[]): Promise<void> {
  for (const setting of await differentSettings(tenants)) {
    await writeFile(setting.path, setting.value);
  }
}

/** The settings of these tenants' links that are not as they must be. */
export async function differentSettings(
  tenants: readonly TenantNetworkState[],
): Promise<LinkSetting[]> {
  const different: LinkSetting[] = [];
  for (const setting of tenants.flatMap(settingsOf)) {
    const value = (await readFileIfAny(setting.path))?.trim();
    // A kernel without IPv6 has no folder for it, and nothing to turn off.
    if (value === undefined && setting.path.includes("/ipv6/")) continue;
    if (value !== setting.value) different.push(setting);
  }
  return different;
}

function settingsOf({ network, ports }: TenantNetworkState): LinkSetting[] {
  const ipv4 = (link: string, name: string, value: string): LinkSetting => ({
    path: `/proc/sys/net/ipv4/conf/${link}/${name}`,
    value,
  });
  const taps = ports.map((port) => port.tap);
  return [
    ...[network.bridge, ...taps].map((link) => ({
      path: `/proc/sys/net/ipv6/conf/${link}/disable_ipv6`,
      value: "1",
    })),
    ipv4(network.bridge, "arp_ignore", "1"),
    // A frame to a link-local group address is the port's own traffic, and ARP passes no inet table.
    ...taps.map((tap) => ipv4(tap, "arp_ignore", "8")),
    ipv4(network.bridge, "rp_filter", "1"),
    ipv4(network.bridge, "send_redirects", "0"),
    // A guest has no say in where the host, or a packet, goes.
    ipv4(network.bridge, "accept_redirects", "0"),
    ipv4(network.bridge, "accept_source_route", "0"),
  ];
}
