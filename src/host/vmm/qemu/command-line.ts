import { join } from "node:path";
import type { VmmSpec } from "../../../ports/vmm.ts";
import { agentPortName } from "../../../protocol/guest-messages.ts";
import type { QemuPlatform } from "./platform.ts";

export const qemuProgram = "qemu-system-x86_64";

/** The inherited socket that QEMU writes to what the guest prints. */
const consoleDescriptor = 3;

export function qmpSocketPath(runDir: string): string {
  return join(runDir, "qmp.sock");
}

export function agentSocketPath(runDir: string): string {
  return join(runDir, "agent.sock");
}

/** The `-name` value that marks a QEMU process as the VMM of an id. */
function guestName(id: string): string {
  return `guest=${id},process=mvm-${id}`;
}

/**
 * The arguments of QEMU for a spec. QEMU starts as root, opens every file, socket and TAP, and drops
 * to the spec's uid before the guest's first instruction; nothing has to be readable for
 * that uid. Source: qemu(1).
 */
export function qemuArguments(spec: VmmSpec, platform: QemuPlatform): string[] {
  const bus = platform.machine === "microvm" ? "device" : "pci";
  const args = [
    ["-name", guestName(spec.id)],
    ["-nodefaults"],
    ["-no-user-config"],
    ["-no-reboot"],
    ["-display", "none"],
    ["-machine", machineOption(platform)],
    ["-accel", platform.accelerator === "kvm" ? "kvm" : "tcg,thread=multi"],
    ["-cpu", platform.accelerator === "kvm" ? "host" : "max"],
    ["-smp", String(spec.vcpus)],
    ["-m", `${machineMemMib(spec.memMib, platform)}M`],
    runAs(spec.uid, platform.qemuVersion),
    // Not `elevateprivileges=deny`: it forbids QEMU its own change to the uid above. The process gets
    // no new privileges from `setpriv` instead.
    ["-sandbox", "on,obsolete=deny,spawn=deny,resourcecontrol=deny"],
    ["-kernel", spec.kernelPath],
    ["-initrd", spec.initrdPath],
    ["-append", kernelCommandLine(spec, platform)],
    ["-qmp", `unix:${escapeOption(qmpSocketPath(spec.runDir))},server=on,wait=off`],
    ["-chardev", `socket,id=console,fd=${consoleDescriptor}`],
    ["-serial", "chardev:console"],
    ["-device", `virtio-rng-${bus}`],
    ["-device", `virtio-serial-${bus}`],
    [
      "-chardev",
      `socket,id=agent,path=${escapeOption(agentSocketPath(spec.runDir))},server=on,wait=off`,
    ],
    ["-device", `virtserialport,chardev=agent,name=${agentPortName}`],
  ];
  for (const drive of spec.drives) {
    const node = `drive-${drive.id}`;
    args.push(
      [
        "-blockdev",
        `driver=raw,node-name=${node},read-only=${drive.readOnly ? "on" : "off"},` +
          `discard=unmap,file.driver=file,file.filename=${escapeOption(drive.path)}`,
      ],
      ["-device", `virtio-blk-${bus},drive=${node},serial=${drive.id}`],
    );
  }
  spec.nics.forEach((nic, index) => {
    args.push(
      ["-netdev", `tap,id=net${index},ifname=${nic.tap},script=no,downscript=no`],
      ["-device", `virtio-net-${bus},netdev=net${index},mac=${nic.mac}`],
    );
  });
  return args.flat();
}

/**
 * The kernel image says that its initrd may lie below 2 GiB only, and `microvm` puts it at the very end
 * of what the image allows. With 2048 MiB that is the end of the memory too, where the firmware of
 * QEMU 10 then writes its ACPI tables: over the last page of the initrd. One MiB more parts the two.
 */
function machineMemMib(memMib: number, platform: QemuPlatform): number {
  return platform.machine === "microvm" && memMib === 2048 ? memMib + 1 : memMib;
}

/** The option changed its name: `-run-with user=` came with QEMU 9.1, and `-runas` went with 10.0. */
function runAs(uid: number, qemuVersion: string): string[] {
  const [major = 0, minor = 0] = qemuVersion.split(".").map(Number);
  const isNew = major > 9 || (major === 9 && minor >= 1);
  return isNew ? ["-run-with", `user=${uid}:${uid}`] : ["-runas", `${uid}:${uid}`];
}

function machineOption(platform: QemuPlatform): string {
  // A core of QEMU, should there ever be one, is without the guest's memory.
  const common = "dump-guest-core=off";
  if (platform.machine === "q35") return `q35,usb=off,${common}`;
  // Debian's kernel finds virtio-mmio devices through ACPI only.
  return `microvm,acpi=on,rtc=on,isa-serial=on,${common}`;
}

function kernelCommandLine(spec: VmmSpec, platform: QemuPlatform): string {
  return [
    "console=ttyS0",
    "panic=-1",
    // Without it the guest calibrates its TSC against timers that stall when the host is busy, and hangs.
    // And without `tsc=reliable` a guest of two or more vCPUs distrusts its TSC, counts jiffies instead,
    // and its clock falls behind whenever the host is busy. Emulated vCPUs all read the host's one TSC.
    ...(platform.tscKhz === null ? [] : [`tsc_early_khz=${platform.tscKhz}`, "tsc=reliable"]),
    ...(spec.drives.length === 0
      ? []
      : [`mvm.drives=${spec.drives.map((drive) => drive.id).join(",")}`]),
    ...spec.kernelArgs,
  ].join(" ");
}

/** In QEMU's option lists a comma is written twice. */
function escapeOption(value: string): string {
  return value.replaceAll(",", ",,");
}
