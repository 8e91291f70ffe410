// Calls the real network adapter inside the network namespace it is started in, as mvm itself would
// be: {options, tenants?} on standard input, the inventory on standard output. Without tenants it only looks.
import { text } from "node:stream/consumers";
import { describeError } from "../../src/domain/errors.ts";
import { HostExec } from "../../src/host/exec.ts";
import { LinuxNetwork } from "../../src/host/net/linux-network.ts";
import type { LinuxNetworkOptions } from "../../src/host/net/linux-network.ts";
import type { TenantNetworkState } from "../../src/ports/network.ts";

export interface DriverInput {
  readonly options: Omit<LinuxNetworkOptions, "exec">;
  readonly tenants?: readonly TenantNetworkState[];
}

try {
  const input = JSON.parse(await text(process.stdin)) as DriverInput;
  const network = new LinuxNetwork({ exec: new HostExec(), ...input.options });
  if (input.tenants !== undefined) await network.apply(input.tenants);
  console.log(JSON.stringify(await network.inventory()));
} catch (error) {
  console.error(describeError(error));
  process.exitCode = 1;
}
