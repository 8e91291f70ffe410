import * as z from "zod";

/** How QEMU runs on this machine, found once by booting probe guests. */
export interface QemuPlatform {
  readonly accelerator: "kvm" | "tcg";
  readonly machine: "microvm" | "q35";
  /** The rate of the guest's time stamp counter in kHz, where the kernel must be told; see `probe.ts`. */
  readonly tscKhz: number | null;
  readonly qemuVersion: string;
}

export const qemuPlatformSchema: z.ZodType<QemuPlatform> = z.strictObject({
  accelerator: z.enum(["kvm", "tcg"]),
  machine: z.enum(["microvm", "q35"]),
  tscKhz: z.number().int().positive().nullable(),
  qemuVersion: z.string(),
});
