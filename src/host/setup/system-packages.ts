import type { Exec } from "../../ports/exec.ts";
import { networkEnvironment } from "../payloads/packages.ts";

const installTimeoutMs = 900_000;

/** Debian packages whose programs mvm runs on the host, and what each is for. */
export const systemPackages: Readonly<Record<string, string>> = {
  "qemu-system-x86": "runs microVMs",
  nftables: "isolates tenants",
  iproute2: "makes bridges and TAPs",
  "dnsmasq-base": "answers DNS for tenants",
  conntrack: "forgets the connections of addresses that were given up",
  e2fsprogs: "makes drives and images",
  "util-linux": "locks and mounts",
  "xz-utils": "unpacks the guest's kernel modules",
};

/** The packages of `systemPackages` that are not installed. */
export async function missingPackages(exec: Exec): Promise<string[]> {
  const names = Object.keys(systemPackages);
  const { stdout } = await exec.tryRun(
    "dpkg-query",
    ["--show", "--showformat", "${Package} ${db:Status-Status}\n", ...names],
    { timeoutMs: 30_000 },
  );
  const installed = new Set(
    stdout
      .split("\n")
      .filter((line) => line.endsWith(" installed"))
      .map((line) => line.split(" ")[0]),
  );
  return names.filter((name) => !installed.has(name));
}

/** Installs Debian packages; apt checks each against its signed index. @throws OperationError when apt cannot. */
export async function installPackages(
  exec: Exec,
  names: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const env = { ...networkEnvironment(), DEBIAN_FRONTEND: "noninteractive" };
  const options = { timeoutMs: installTimeoutMs, signal, env };
  await exec.run("apt-get", ["update", "-q"], options);
  await exec.run("apt-get", ["install", "-q", "-y", "--no-install-recommends", ...names], options);
}
