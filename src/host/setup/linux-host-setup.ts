import { access, mkdir, rm, statfs } from "node:fs/promises";
import { arch, availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { HostLacksError } from "../../domain/errors.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Exec } from "../../ports/exec.ts";
import type { Finding, HostSetup, Leak, NodeInfo } from "../../ports/host-setup.ts";
import type { Locks } from "../../ports/locks.ts";
import { isErrno, readFileIfAny } from "../files.ts";
import { payloadStatus, preparePayloads } from "../payloads/prepare.ts";
import { qemuProgram } from "../vmm/qemu/command-line.ts";
import { probePlatform } from "../vmm/qemu/probe.ts";
import { certificateExpiry, ensureIdentity, readNodeId } from "./identity.ts";
import { type LeakScan, findLeaks } from "./leaks.ts";
import { readPlatformIfWhole, writePlatform } from "./platform-file.ts";
import { installPackages, missingPackages, systemPackages } from "./system-packages.ts";

const gib = 1024 ** 3;
const wantedFreeGib = 6;

export interface LinuxHostSetupOptions extends LeakScan {
  readonly exec: Exec;
  readonly clock: Clock;
  readonly locks: Locks;
  readonly projectDir: string;
  readonly version: string;
  readonly builderUid: number;
  /** Writes an initial RAM file system that has /bin/busybox, for probe guests. */
  readonly writeInitrd: (path: string) => Promise<void>;
  readonly onProgress: (line: string) => void;
}

/** Prepares a Debian or Ubuntu machine as a development node, and tells how it stands. */
export class LinuxHostSetup implements HostSetup {
  readonly #options: LinuxHostSetupOptions;

  constructor(options: LinuxHostSetupOptions) {
    this.#options = options;
  }

  async prepare(signal: AbortSignal): Promise<string[]> {
    if (process.getuid?.() !== 0) {
      throw new HostLacksError("preparing a host needs root", { hint: "run it with sudo" });
    }
    const { roots, exec, locks, projectDir, onProgress, clock } = this.#options;
    await mkdir(roots.stateDir, { recursive: true, mode: 0o755 });
    return locks.withBuild("host", "preparing the host", async () => {
      const done: string[] = [];
      const missing = await missingPackages(exec);
      if (missing.length > 0) {
        onProgress(`installing ${missing.join(", ")}`);
        await installPackages(exec, missing, signal);
        done.push(`installed: ${missing.join(", ")}`);
      }
      await this.#requireGuestPrograms();
      await this.#options.builder.sweep();
      await preparePayloads({ stateDir: roots.stateDir, projectDir, exec, onProgress, signal });
      const platform = await this.#ensurePlatform();
      done.push(`microVMs run under QEMU ${platform}`);
      const identity = await ensureIdentity(roots.stateDir, clock.nowMs());
      done.push(...identity.map((line) => `made: ${line}`));
      return done;
    });
  }

  async diagnose(): Promise<Finding[]> {
    const { roots, exec } = this.#options;
    const missing = new Set(await missingPackages(exec));
    const platform = await readPlatformIfWhole(roots.stateDir);
    const fix = "mvm add host";
    const findings: Finding[] = Object.entries(systemPackages).map(([name, use]) =>
      missing.has(name)
        ? { feature: name, status: "missing", detail: `${use}; not installed`, fix }
        : { feature: name, status: "ok", detail: use, fix: "" },
    );
    for (const { name, present, version } of await payloadStatus(roots.stateDir)) {
      const feature = `payload ${name}`;
      findings.push(
        present
          ? { feature, status: "ok", detail: version ?? "", fix: "" }
          : { feature, status: "missing", detail: "not prepared", fix },
      );
    }
    findings.push(
      platform === undefined
        ? { feature: "microVMs", status: "missing", detail: "not probed yet", fix }
        : {
            feature: "microVMs",
            status: platform.accelerator === "kvm" ? "ok" : "warning",
            detail: `${platform.accelerator} on ${platform.machine}, QEMU ${platform.qemuVersion}`,
            fix:
              platform.accelerator === "kvm"
                ? ""
                : "a host with usable KVM runs them many times faster",
          },
    );
    const nodeId = await readNodeId(roots.stateDir);
    findings.push(
      nodeId === undefined
        ? { feature: "node id", status: "missing", detail: "none yet", fix }
        : { feature: "node id", status: "ok", detail: nodeId, fix: "" },
      await this.#certificate(),
      await this.#freeDisk(),
      await swapFinding(),
      await cgroupFinding(),
    );
    return findings;
  }

  async leaks(): Promise<Leak[]> {
    return findLeaks(this.#options);
  }

  async info(): Promise<NodeInfo> {
    const { roots, version } = this.#options;
    const platform = await readPlatformIfWhole(roots.stateDir);
    const expiresAtMs = await certificateExpiry(roots.stateDir);
    const payloads = await payloadStatus(roots.stateDir);
    return {
      node_id: (await readNodeId(roots.stateDir)) ?? null,
      version,
      architecture: arch(),
      vcpus: availableParallelism(),
      memory_mib: Math.floor(totalmem() / 1024 ** 2),
      vmm: platform === undefined ? null : "qemu",
      vmm_version: platform?.qemuVersion ?? null,
      accelerator: platform?.accelerator ?? null,
      kvm: platform?.accelerator === "kvm",
      cgroup_v2: await hasCgroupV2(),
      certificate_expires_at:
        expiresAtMs === undefined ? null : new Date(expiresAtMs).toISOString(),
      prepared: platform !== undefined && payloads.every(({ present }) => present),
    };
  }

  async #ensurePlatform(): Promise<string> {
    const { roots, exec, clock, builderUid, onProgress } = this.#options;
    let platform = await readPlatformIfWhole(roots.stateDir);
    const { stdout } = await exec.run(qemuProgram, ["--version"], { timeoutMs: 10_000 });
    if (platform === undefined || !stdout.includes(`version ${platform.qemuVersion}`)) {
      // A probe guest that is here now was left by a preparation that died: this one holds its lock.
      const probes = join(roots.runDir, "probe");
      for (const left of await this.#options.vmm.list(probes)) {
        await this.#options.vmm.stop(left, 0);
      }
      await rm(probes, { recursive: true, force: true });
      const initrdPath = join(roots.stateDir, "payloads", "probe-initrd");
      await this.#options.writeInitrd(initrdPath);
      platform = await probePlatform({
        kernelPath: join(roots.stateDir, "payloads", "kernel", "vmlinuz"),
        initrdPath,
        runDir: probes,
        uid: builderUid,
        exec,
        onProgress,
      });
      await writePlatform(roots.stateDir, platform, clock.nowMs());
    }
    return `${platform.qemuVersion} (${platform.accelerator}, ${platform.machine})`;
  }

  async #requireGuestPrograms(): Promise<void> {
    const path = join(this.#options.projectDir, "dist", "guest", "agent.mjs");
    try {
      await access(path);
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
      throw new HostLacksError("the guest agent is not built", {
        hint: "run `npm run build` in the folder of mvm",
        cause: error,
      });
    }
  }

  async #certificate(): Promise<Finding> {
    const { roots, clock } = this.#options;
    const feature = "node certificate";
    const expiresAtMs = await certificateExpiry(roots.stateDir);
    if (expiresAtMs === undefined) {
      return { feature, status: "missing", detail: "none yet", fix: "mvm add host" };
    }
    const detail = `until ${new Date(expiresAtMs).toISOString()}`;
    return expiresAtMs > clock.nowMs()
      ? { feature, status: "ok", detail, fix: "" }
      : { feature, status: "missing", detail: `ended ${detail}`, fix: "mvm add host" };
  }

  async #freeDisk(): Promise<Finding> {
    const feature = "disk space";
    const { stateDir } = this.#options.roots;
    try {
      const { bavail, bsize } = await statfs(stateDir);
      const freeGib = (bavail * bsize) / gib;
      const detail = `${freeGib.toFixed(1)} GiB free in ${stateDir}`;
      return freeGib >= wantedFreeGib
        ? { feature, status: "ok", detail, fix: "" }
        : { feature, status: "warning", detail, fix: `have ${wantedFreeGib} GiB free` };
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
      return { feature, status: "missing", detail: `no ${stateDir} yet`, fix: "mvm add host" };
    }
  }
}

async function swapFinding(): Promise<Finding> {
  const swaps = ((await readFileIfAny("/proc/swaps")) ?? "").trim().split("\n").length - 1;
  return swaps <= 0
    ? { feature: "swap", status: "ok", detail: "none: secrets in memory stay there", fix: "" }
    : {
        feature: "swap",
        status: "warning",
        detail: "secrets in memory may be written to it",
        fix: "swapoff -a, or encrypt it",
      };
}

async function cgroupFinding(): Promise<Finding> {
  return (await hasCgroupV2())
    ? { feature: "cgroup v2", status: "ok", detail: "memory and cpu controllers", fix: "" }
    : {
        feature: "cgroup v2",
        status: "warning",
        detail: "no memory controller: guests are bounded by QEMU alone",
        fix: "boot with systemd.unified_cgroup_hierarchy=1",
      };
}

async function hasCgroupV2(): Promise<boolean> {
  const controllers = await readFileIfAny("/sys/fs/cgroup/cgroup.controllers");
  return controllers?.split(/\s/).includes("memory") ?? false;
}
