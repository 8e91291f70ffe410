import { requirePlatform } from "../../src/host/setup/platform-file.ts";
import { QemuVmm } from "../../src/host/vmm/qemu/qemu-vmm.ts";
import { vmmContract } from "./vmm-contract.ts";

vmmContract("QEMU on the machine type that the probe chose", {
  make: ({ stateDir }) => new QemuVmm(() => requirePlatform(stateDir)),
  sockets: ["agent.sock", "qmp.sock"],
});

vmmContract("QEMU's q35", {
  make: ({ stateDir }) =>
    new QemuVmm(async () => ({
      ...(await requirePlatform(stateDir)),
      machine: "q35",
      tscKhz: null,
    })),
  sockets: ["agent.sock", "qmp.sock"],
});
