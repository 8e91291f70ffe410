import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { instanceNetwork, tenantNetwork } from "../../src/domain/address-plan.ts";
import { type EgressPolicy, openEgress } from "../../src/domain/egress.ts";
import type {
  ApplyOptions,
  NetworkDifference,
  NetworkInventory,
  ProbeReport,
  TenantNetworkState,
} from "../../src/ports/network.ts";
import { NetNamespace, connect } from "./net-namespace.ts";
import type { DriverInput } from "./network-driver.ts";

const driver = new URL("network-driver.ts", import.meta.url).pathname;

/** A host of its own for the network adapter: a namespace, and roots that go with it. */
export class NetworkHost implements AsyncDisposable {
  readonly namespace: NetNamespace;
  readonly root: string;
  readonly #portKinds: readonly string[];

  private constructor(namespace: NetNamespace, root: string, portKinds: readonly string[]) {
    this.namespace = namespace;
    this.root = root;
    this.#portKinds = portKinds;
  }

  /** `portKinds` as in LinuxNetworkOptions; its host asks the resolver at `resolver`. */
  static async make(
    label: string,
    resolver: string,
    portKinds: readonly string[],
  ): Promise<NetworkHost> {
    const root = await mkdtemp(join(tmpdir(), "mvm-net-"));
    await chmod(root, 0o711);
    await writeFile(join(root, "resolv.conf"), `nameserver ${resolver}\n`, { mode: 0o644 });
    const namespace = await NetNamespace.make(label);
    // A new namespace inherits the machine's setting, which is on beside a live deployment.
    await namespace.run("dd", ["of=/proc/sys/net/ipv4/ip_forward"], { input: "0" });
    return new NetworkHost(namespace, root, portKinds);
  }

  /** Makes this host equal to `tenants`. @returns what is found there afterwards. */
  async apply(
    tenants: readonly TenantNetworkState[],
    applyOptions: ApplyOptions = {},
  ): Promise<NetworkInventory> {
    return (await this.#drive({ call: "apply", tenants, applyOptions })) as NetworkInventory;
  }

  async inventory(): Promise<NetworkInventory> {
    return (await this.#drive({ call: "inventory" })) as NetworkInventory;
  }

  /** `part name: problem` of each difference. */
  async verify(
    tenants: readonly TenantNetworkState[],
    applyOptions: ApplyOptions = {},
  ): Promise<string[]> {
    const found = await this.#drive({ call: "verify", tenants, applyOptions });
    return (found as NetworkDifference[]).map(
      ({ part, name, problem }) => `${part} ${name}: ${problem}`,
    );
  }

  async probe(): Promise<ProbeReport> {
    return (await this.#drive({ call: "probe" })) as ProbeReport;
  }

  /** Starts `apply` and kills it after `afterMs` milliseconds. */
  async applyCutOff(tenants: readonly TenantNetworkState[], afterMs: number): Promise<void> {
    const [program, args] = this.namespace.command(process.execPath, [driver]);
    await this.namespace.tryRun("timeout", ["-s", "KILL", `${afterMs / 1000}`, program, ...args], {
      input: JSON.stringify(this.#input({ call: "apply", tenants })),
    });
  }

  /** Removes what `apply` made, the namespace and the roots. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.apply([]);
    } finally {
      await this.namespace[Symbol.asyncDispose]();
      await rm(this.root, { recursive: true, force: true });
    }
  }

  async #drive(input: Omit<DriverInput, "options">): Promise<unknown> {
    const output = await this.namespace.run(process.execPath, [driver], {
      input: JSON.stringify(this.#input(input)),
      timeoutMs: 60_000,
    });
    return JSON.parse(output);
  }

  #input(input: Omit<DriverInput, "options">): DriverInput {
    const options = {
      stateDir: join(this.root, "state"),
      runDir: join(this.root, "run"),
      resolvConf: join(this.root, "resolv.conf"),
      vmUidBase: 900_000,
      portKinds: this.#portKinds,
    };
    return { options, ...input };
  }
}

/** The state of a tenant with instances `i-<offset>` of pool `web` at the given offsets. */
export function tenantState(
  netId: number,
  offsets: readonly number[],
  egress: EgressPolicy = openEgress,
): TenantNetworkState {
  return {
    tenantId: `tenant-${netId}`,
    network: tenantNetwork(netId),
    ports: offsets.map((offset) => ({
      ...instanceNetwork(netId, offset),
      owner: `tenant-${netId}/web/i-${offset}`,
      names: [`i-${offset}.web.mvm`, "web.mvm"],
      egress,
    })),
  };
}

/**
 * A namespace that stands for a guest: its `eth0` has the guest's MAC and address, and its other
 * end on the host has the name of the guest's TAP, since a TAP cannot end in a namespace.
 */
export async function makeGuest(
  host: NetworkHost,
  tenant: TenantNetworkState,
  offset: number,
): Promise<NetNamespace> {
  const port = instanceNetwork(tenant.network.netId, offset);
  const guest = await NetNamespace.make(port.tap);
  await connect(host.namespace, guest, [port.tap, "eth0"]);
  await guest.ip(
    `link set eth0 address ${port.mac}`,
    `address add ${port.ip}/24 dev eth0`,
    "link set eth0 up",
    `route add default via ${tenant.network.gatewayIp}`,
  );
  return guest;
}

/**
 * A namespace that stands for the rest of the world: a router at 198.51.100.2, next to the host at
 * 198.51.100.1, with addresses behind it, and with a route to the guests through the host, which
 * it uses from the first of them.
 */
export async function makeOutside(
  host: NetworkHost,
  addresses: readonly string[],
): Promise<NetNamespace> {
  const outside = await NetNamespace.make("outside");
  await connect(host.namespace, outside, ["uplink", "eth0"]);
  await outside.ip(
    "address add 198.51.100.2/24 dev eth0",
    "link set eth0 up",
    ...addresses.map((address) => `address add ${address}/32 dev lo`),
    // From an address that is no neighbour of the host: guests may answer those.
    `route add 10.240.0.0/12 via 198.51.100.1 src ${addresses[0] ?? "198.51.100.2"}`,
  );
  await host.namespace.ip(
    "address add 198.51.100.1/24 dev uplink",
    "link set uplink up",
    "route add default via 198.51.100.2",
  );
  return outside;
}
