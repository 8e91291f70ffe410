import { readFile, writeFile } from "node:fs/promises";
import type { TenantNetworkState } from "../../ports/network.ts";
import { isErrno } from "../files.ts";

/** A setting of one link below /proc/sys/net, and the value it must have. */
interface LinkSetting {
  readonly path: string;
  readonly value: string;
}

/**
 * Sets what `ip` cannot: no IPv6 on bridges and ports; a bridge answers ARP for its own address
 * alone, so that a guest cannot ask which other networks the host has; a source address must be
 * routed back to where it came from. Done before a link is up.
 */
export async function applyLinkSettings(tenants: readonly TenantNetworkState[]): Promise<void> {
  for (const setting of tenants.flatMap(settingsOf)) {
    try {
      const value = (await readFile(setting.path, "utf8")).trim();
      if (value !== setting.value) await writeFile(setting.path, setting.value);
    } catch (error) {
      // A kernel without IPv6 has no folder for it, and nothing to turn off.
      if (!isErrno(error, "ENOENT") || !setting.path.includes("/ipv6/")) throw error;
    }
  }
}

function settingsOf({ network, ports }: TenantNetworkState): LinkSetting[] {
  const links = [network.bridge, ...ports.map((port) => port.tap)];
  return [
    ...links.map((link) => ({ path: `/proc/sys/net/ipv6/conf/${link}/disable_ipv6`, value: "1" })),
    { path: `/proc/sys/net/ipv4/conf/${network.bridge}/arp_ignore`, value: "1" },
    { path: `/proc/sys/net/ipv4/conf/${network.bridge}/rp_filter`, value: "1" },
    { path: `/proc/sys/net/ipv4/conf/${network.bridge}/send_redirects`, value: "0" },
  ];
}
