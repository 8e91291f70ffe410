// Calls the real network adapter inside the network namespace it is started in, as mvm itself would
// be: what to call on standard input, the answer on standard output.
import { text } from "node:stream/consumers";
import { describeError } from "../../src/domain/errors.ts";
import { HostExec } from "../../src/host/exec.ts";
import { LinuxNetwork } from "../../src/host/net/linux-network.ts";
import type { LinuxNetworkOptions } from "../../src/host/net/linux-network.ts";
import type { ApplyOptions, TenantNetworkState } from "../../src/ports/network.ts";

export interface DriverInput {
  readonly options: Omit<LinuxNetworkOptions, "exec">;
  readonly call: "apply" | "inventory" | "verify" | "probe";
  readonly tenants?: readonly TenantNetworkState[];
  readonly applyOptions?: ApplyOptions;
}

/** The inventory afterwards, or what was asked for. */
async function answer(network: LinuxNetwork, input: DriverInput): Promise<unknown> {
  const tenants = input.tenants ?? [];
  switch (input.call) {
    case "verify":
      return await network.verify(tenants, input.applyOptions);
    case "probe":
      return await network.probe();
    case "apply":
      await network.apply(tenants, input.applyOptions);
      return await network.inventory();
    case "inventory":
      return await network.inventory();
  }
}

try {
  const input = JSON.parse(await text(process.stdin)) as DriverInput;
  const network = new LinuxNetwork({ exec: new HostExec(), ...input.options });
  console.log(JSON.stringify(await answer(network, input)));
} catch (error) {
  console.error(describeError(error));
  process.exitCode = 1;
}
