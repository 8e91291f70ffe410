import { access, mkdir, rm, statfs } from "node:fs/promises";
import { arch, availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { HostLacksError } from "../../domain/errors.ts";
import type { AttestationProvider } from "../../ports/attestation.ts";
import {
  describeStandings,
  developmentView,
  judgePromises,
  viewProduction,
} from "../../domain/production.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Exec } from "../../ports/exec.ts";
import type { Finding, HostSetup, Leak, NodeInfo, PrepareOptions } from "../../ports/host-setup.ts";
import type { Locks } from "../../ports/locks.ts";
import type { Production } from "../../ports/production.ts";
import { isErrno, readFileIfAny } from "../files.ts";
import { payloadStatus, preparePayloads } from "../payloads/prepare.ts";
import { qemuProgram } from "../vmm/qemu/command-line.ts";
import { probePlatform } from "../vmm/qemu/probe.ts";
import {
  certificateExpiry,
  checkAuthority,
  ensureIdentity,
  readAuthority,
  readNodeId,
} from "./identity.ts";
import {
  cgroupFinding,
  coreDumpFinding,
  deviceFinding,
  privilegeFinding,
  swapFinding,
} from "./host-findings.ts";
import { type LeakScan, findLeaks } from "./leaks.ts";
import { readPlatformIfWhole, writePlatform } from "./platform-file.ts";
import { isProduction, plainSwap, recordProduction, requireProduction } from "./production.ts";
import { hasCgroupControllers } from "./cgroups.ts";
import { productionFindings } from "./production-findings.ts";
import { requireSupportedHost, type HostFacts } from "./supported-host.ts";
import { listTrustedKeys, trustKey } from "./trusted-keys.ts";
import { installPackages, missingPackages, systemPackages } from "./system-packages.ts";

const gib = 1024 ** 3;
const wantedFreeGib = 6;

export interface LinuxHostSetupOptions extends LeakScan {
  readonly exec: Exec;
  readonly clock: Clock;
  readonly locks: Locks;
  readonly production: Production;
  readonly projectDir: string;
  readonly version: string;
  readonly builderUid: number;
  /** Writes an initial RAM file system that has /bin/busybox, for probe guests. */
  readonly writeInitrd: (path: string) => Promise<void>;
  readonly onProgress: (line: string) => void;
  /** Parts agentd from hostd, where this machine can run both for good. @returns what it did, a line each. */
  readonly partPrivileges: () => Promise<string[]>;
  readonly attestation: AttestationProvider;
}

/** Prepares a Debian or Ubuntu machine as a development node, and tells how it stands. */
export class LinuxHostSetup implements HostSetup {
  readonly #options: LinuxHostSetupOptions;

  constructor(options: LinuxHostSetupOptions) {
    this.#options = options;
  }

  async prepare(options: PrepareOptions, signal: AbortSignal): Promise<string[]> {
    const { roots, exec, locks, projectDir, onProgress, clock } = this.#options;
    requireSupportedHost(await hostFacts());
    if (options.vmm === "firecracker") {
      throw new HostLacksError("this version has no Firecracker driver", {
        hint: "leave --vmm out: QEMU runs on every host",
      });
    }
    await this.#requireTrust(options);
    await mkdir(roots.stateDir, { recursive: true, mode: 0o755 });
    return locks.withBuild("host", "preparing the host", async () => {
      // Somebody else may have prepared it while this one waited.
      await this.#requireTrust(options);
      const done = await this.#installTrust(options);
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
      const identity = await ensureIdentity(roots.stateDir, clock.nowMs(), options.caCertificate);
      done.push(...identity.map((line) => `made: ${line}`));
      done.push(...(await this.#options.partPrivileges()));
      // Last: what is recorded is strict, and this node is whole now.
      if (options.production) {
        await recordProduction(roots.configDir);
        done.push("recorded: a node of production");
        const findings = await this.#options.production.look();
        done.push(...describeStandings(judgePromises(findings, clock.nowMs())));
        if (findings.waiversProblem !== null) {
          done.push(`NO WAIVER HOLDS: ${findings.waiversProblem}`);
        }
      }
      return done;
    });
  }

  /** Refuses what would be refused later, before anything is installed. */
  async #requireTrust({ caCertificate, signingKey, production }: PrepareOptions): Promise<void> {
    const { roots, clock } = this.#options;
    if (caCertificate !== undefined) {
      await checkAuthority(roots.stateDir, caCertificate, clock.nowMs());
    }
    if (!production) return;
    const { keys } = await listTrustedKeys(roots.configDir);
    const findings = await this.#options.production.look();
    const swap = judgePromises(findings, clock.nowMs()).find(
      ({ promise }) => promise === "no-plain-swap",
    );
    requireProduction({
      hasAuthority:
        caCertificate !== undefined || (await readAuthority(roots.stateDir)) === "external",
      trustedKeys: keys + (signingKey === undefined ? 0 : 1),
      plainSwap: swap?.state === "lacking" ? await plainSwap("/") : [],
    });
  }

  async #installTrust({ signingKey }: PrepareOptions): Promise<string[]> {
    if (signingKey === undefined) return [];
    const { id, path, added } = await trustKey(this.#options.roots.configDir, signingKey);
    return added ? [`trusted: signing key ${id} in ${path}`] : [];
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
      privilegeFinding(roots),
      await this.#authority(),
      await this.#signingKeys(),
      await swapFinding(),
      await coreDumpFinding(),
      await cgroupFinding(),
      await deviceFinding(
        "disk encryption",
        "/dev/mapper/control",
        "modprobe dm_crypt",
        "device-mapper; this version encrypts no disks yet",
      ),
      {
        feature: "Firecracker",
        status: "warning",
        detail: "this version runs microVMs under QEMU only",
        fix: "none yet",
      },
      ...(await this.#production()),
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
      cgroup_v2: await hasCgroupControllers("/", ["memory"]),
      jailer: this.#options.vmm.capabilities.jail,
      attestation: this.#options.attestation.name,
      ...(isProduction(roots.configDir, process.env)
        ? viewProduction(await this.#options.production.look(), this.#options.clock.nowMs())
        : developmentView),
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

  async #authority(): Promise<Finding> {
    const feature = "certificate authority";
    switch (await readAuthority(this.#options.roots.stateDir)) {
      case "none":
        return { feature, status: "missing", detail: "none yet", fix: "mvm add host" };
      case "development":
        return {
          feature,
          status: "warning",
          detail: "a development CA of this node's own",
          fix: "for a fleet: mvm add host --ca ca.crt, before anything else",
        };
      case "external":
        return { feature, status: "ok", detail: "a CA elsewhere", fix: "" };
    }
  }

  async #signingKeys(): Promise<Finding> {
    const feature = "signing keys";
    const { keys, broken } = await listTrustedKeys(this.#options.roots.configDir);
    if (broken.length > 0) {
      const detail = `no key is in ${broken.join(", ")}`;
      return { feature, status: "missing", detail, fix: `rm ${broken.join(" ")}` };
    }
    return keys > 0
      ? { feature, status: "ok", detail: `${keys} coordinators are believed`, fix: "" }
      : {
          feature,
          status: "warning",
          detail: "no coordinator is believed",
          fix: "for a fleet: mvm add host --signing-key coordinator.pub",
        };
  }

  async #production(): Promise<Finding[]> {
    if (!isProduction(this.#options.roots.configDir, process.env)) {
      return [{ feature: "production", status: "ok", detail: "a development node", fix: "" }];
    }
    return productionFindings(await this.#options.production.look(), this.#options.clock.nowMs());
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

async function hostFacts(): Promise<HostFacts> {
  return {
    platform: process.platform,
    architecture: arch(),
    isRoot: process.getuid?.() === 0,
    osRelease: (await readFileIfAny("/etc/os-release")) ?? "",
    hasApt: await isThere("/usr/bin/apt-get"),
  };
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}
