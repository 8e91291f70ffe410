import { mkdir, rm } from "node:fs/promises";
import { dirname } from "node:path";
import * as z from "zod";
import { egressSchema } from "../../domain/egress-schema.ts";
import type { NetworkPort, TenantNetworkState } from "../../ports/network.ts";
import { readOwnFileIfAny, writeFileAtomic } from "../files.ts";
import { currentPlace } from "./forwarding.ts";

const portSchema: z.ZodType<NetworkPort> = z.object({
  offset: z.number(),
  ip: z.string(),
  mac: z.string(),
  tap: z.string(),
  owner: z.string(),
  names: z.array(z.string()),
  egress: egressSchema,
});

const appliedSchema = z.object({
  schema_version: z.literal(1),
  boot_id: z.string(),
  network_namespace: z.string(),
  tenants: z.array(
    z.object({
      tenantId: z.string(),
      network: z.object({
        netId: z.number(),
        subnet: z.string(),
        gatewayIp: z.string(),
        bridge: z.string(),
      }),
      ports: z.array(portSchema),
    }),
  ),
});

/**
 * What was last brought about in this network namespace since the boot, in a file of the run folder:
 * it tells which addresses were released, and what a tenant had whose records cannot be read.
 */
export class AppliedNetworks {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async load(): Promise<readonly TenantNetworkState[]> {
    // Where agentd has a user of its own, that may add files to the run folder.
    const text = await readOwnFileIfAny(this.#path);
    if (text === undefined) return [];
    try {
      const applied = appliedSchema.parse(JSON.parse(text));
      const place = await currentPlace();
      const same =
        applied.boot_id === place.boot_id && applied.network_namespace === place.network_namespace;
      return same ? applied.tenants : [];
    } catch (error) {
      // Without it nothing is known to have been applied, which closes more and not less.
      if (error instanceof SyntaxError || error instanceof z.ZodError) return [];
      throw error;
    }
  }

  async save(tenants: readonly TenantNetworkState[]): Promise<void> {
    if (tenants.length === 0) {
      await rm(this.#path, { force: true });
      return;
    }
    const record = { schema_version: 1, ...(await currentPlace()), tenants };
    const text = `${JSON.stringify(record)}\n`;
    if (text === (await readOwnFileIfAny(this.#path))) return;
    await mkdir(dirname(this.#path), { recursive: true });
    await writeFileAtomic(this.#path, text, 0o600);
  }
}

/**
 * `tenants`, and of what was applied before what they do not name but is still there: it belongs to
 * records that cannot be read, keeps what it had and gains nothing.
 * @param linkNames the links that are there.
 */
export function withKept(
  tenants: readonly TenantNetworkState[],
  applied: readonly TenantNetworkState[],
  linkNames: ReadonlySet<string>,
): TenantNetworkState[] {
  const named = new Map(tenants.map((tenant) => [tenant.network.netId, tenant]));
  const kept = applied
    .filter(({ network }) => linkNames.has(network.bridge))
    .map((former) => {
      const present = named.get(former.network.netId);
      // A net id belongs to whom the records that can be read say.
      const ports =
        present === undefined || present.tenantId === former.tenantId ? former.ports : [];
      const taps = new Set(present?.ports.map(({ tap }) => tap));
      const left = ports.filter(({ tap }) => !taps.has(tap) && linkNames.has(tap));
      return { ...(present ?? former), ports: [...(present?.ports ?? []), ...left] };
    });
  const ids = new Set(kept.map(({ network }) => network.netId));
  return [...tenants.filter(({ network }) => !ids.has(network.netId)), ...kept];
}

/** The addresses whose connections are no longer anyone's: given up, given to another, or under another policy now. */
export function releasedAddresses(
  applied: readonly TenantNetworkState[],
  tenants: readonly TenantNetworkState[],
): string[] {
  const holder = ({ owner, egress }: NetworkPort): string => JSON.stringify([owner, egress]);
  const present = new Map(
    tenants.flatMap(({ ports }) => ports.map((port) => [port.ip, holder(port)] as const)),
  );
  return applied
    .flatMap(({ ports }) => ports)
    .filter((port) => present.get(port.ip) !== holder(port))
    .map(({ ip }) => ip)
    .toSorted();
}
