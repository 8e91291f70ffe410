import { access } from "node:fs/promises";
import { join } from "node:path";
import { MvmError, describeError, isSystemError } from "../../domain/errors.ts";
import type {
  ProductionFindings,
  PromiseFact,
  PromiseFacts,
  Waiver,
} from "../../domain/production.ts";
import type { Production } from "../../ports/production.ts";
import type { VmmCapabilities } from "../../ports/vmm.ts";
import { NodeSigner } from "../audit/node-signer.ts";
import { plainEnvironment } from "../exec.ts";
import { isErrno, readFileIfAny, statIfAny } from "../files.ts";
import { payloadStatus } from "../payloads/prepare.ts";
import type { Roots } from "../roots.ts";
import { stateOwner } from "../state-owner.ts";
import { hasCgroupControllers } from "./cgroups.ts";
import { coresGoToDisk } from "./core-dumps.ts";
import { readAuthority } from "./identity.ts";
import { plainSwap } from "./production.ts";
import { listTrustedKeys, trustedKeyPaths } from "./trusted-keys.ts";

const networkPrograms = ["nft", "ip"];
const othersMayWrite = 0o022;

/** Where an operator's waivers are. */
export function waiversPath({ configDir }: Pick<Roots, "configDir">): string {
  return join(configDir, "waivers.toml");
}

export interface LinuxProductionOptions {
  readonly roots: Roots;
  readonly capabilities: VmmCapabilities;
  /** Whether this process answers others than its operator: then it may have no privileges itself. Default false. */
  readonly servesNetwork?: boolean;
  /** Where the kernel tells of itself; another place in tests. Default `/`. */
  readonly kernelRoot?: string;
  /** Whose files are believed. Default root's. */
  readonly trustedUid?: number;
}

/** Looks at a Linux host for what production promises. Reads some small files, anew each time. */
export class LinuxProduction implements Production {
  readonly #options: LinuxProductionOptions;

  constructor(options: LinuxProductionOptions) {
    this.#options = options;
  }

  async look(): Promise<ProductionFindings> {
    const [facts, waivers] = await Promise.all([this.#facts(), this.#waivers()]);
    return { facts, ...waivers, waiversPath: waiversPath(this.#options.roots) };
  }

  async #waivers(): Promise<{ waivers: Waiver[]; waiversProblem: string | null }> {
    // Loaded where it is needed: most commands answer sooner than a TOML parser loads.
    const { readWaivers } = await import("./waivers-file.ts");
    try {
      const { roots, trustedUid } = this.#options;
      return { waivers: await readWaivers(waiversPath(roots), trustedUid), waiversProblem: null };
    } catch (error) {
      if (!(error instanceof MvmError)) throw error;
      return { waivers: [], waiversProblem: describeError(error) };
    }
  }

  async #facts(): Promise<PromiseFacts> {
    return {
      signature: await looked(() => this.#signature()),
      mtls: await looked(() => this.#mtls()),
      "tenant-isolation": await looked(() => this.#tenantIsolation()),
      "pinned-downloads": await looked(() => this.#pinnedDownloads()),
      "vmm-sandbox": await looked(() => this.#vmmSandbox()),
      "runtime-isolation": this.#runtimeIsolation(),
      "cgroup-v2": await looked(() => this.#cgroups()),
      "no-plain-swap": await looked(() => this.#swap()),
      "no-core-dumps": await looked(() => this.#coreDumps()),
      encryption: await looked(() => this.#encryption()),
      "privilege-separation": await looked(() => this.#privilegeSeparation()),
      audit: await looked(() => this.#audit()),
    };
  }

  async #signature(): Promise<PromiseFact> {
    const { roots, trustedUid = 0 } = this.#options;
    const { keys } = await listTrustedKeys(roots.configDir);
    if (keys === 0) {
      return lacking(
        "no coordinator's signing key is believed",
        "mvm add host --signing-key coordinator.pub",
      );
    }
    for (const path of [roots.configDir, ...(await trustedKeyPaths(roots.configDir))]) {
      const found = await statIfAny(path);
      if (found === undefined) continue;
      if (found.uid === trustedUid && (found.mode & othersMayWrite) === 0) continue;
      return lacking(
        `others than root can write ${path}, which says who is believed`,
        `chown root ${path}; chmod go-w ${path}`,
      );
    }
    return kept(keys === 1 ? "one signing key is believed" : `${keys} signing keys are believed`);
  }

  async #mtls(): Promise<PromiseFact> {
    const fix = "mvm add host --ca ca.crt, before anything else";
    switch (await readAuthority(this.#options.roots.stateDir)) {
      case "none":
        return lacking("this node has no CA", fix);
      case "development":
        return lacking("the CA is this node's own: whoever has the node can be anybody", fix);
      case "external":
        return kept("the CA is elsewhere");
    }
  }

  async #tenantIsolation(): Promise<PromiseFact> {
    for (const name of networkPrograms) {
      if (await isOnPath(name)) continue;
      return lacking(`${name} is not installed, which sets up tenants' networks`, "mvm add host");
    }
    return kept("compared with the records before each start; see `mvm net verify`");
  }

  async #pinnedDownloads(): Promise<PromiseFact> {
    const status = await payloadStatus(this.#options.roots.stateDir);
    const missing = status.filter(({ present }) => !present).map(({ name }) => name);
    return missing.length === 0
      ? kept("what guests run was checked when it was prepared")
      : lacking(`no record that ${missing.join(", ")} was checked`, "mvm add host");
  }

  async #vmmSandbox(): Promise<PromiseFact> {
    const actions = await this.#kernelFile("proc/sys/kernel/seccomp/actions_avail");
    return actions?.split(/\s+/).includes("kill_process") === true
      ? kept("a user of its own, no capabilities, seccomp")
      : lacking("this kernel has no seccomp", "boot a kernel with CONFIG_SECCOMP_FILTER");
  }

  #runtimeIsolation(): PromiseFact {
    return this.#options.capabilities.jail
      ? kept("a VMM runs in its jail")
      : lacking("this version runs VMMs without a jail", "none in this version; waive it, or wait");
  }

  async #cgroups(): Promise<PromiseFact> {
    const root = this.#options.kernelRoot ?? "/";
    if (!(await hasCgroupControllers(root, ["cpu", "memory", "pids", "io"]))) {
      return lacking(
        "this host has no cgroup v2 with cpu, memory, pids and io",
        "boot with systemd.unified_cgroup_hierarchy=1",
      );
    }
    return this.#options.capabilities.jail
      ? kept("limits are written for each VMM, and read back")
      : lacking(
          "this version puts no VMM into a cgroup of its own",
          "none in this version; waive it, or wait",
        );
  }

  async #swap(): Promise<PromiseFact> {
    const plain = await plainSwap(this.#options.kernelRoot ?? "/");
    return plain.length === 0
      ? kept("no swap, or it is encrypted")
      : lacking(`plain swap: ${plain.join(", ")}`, "swapoff -a, and take it out of /etc/fstab");
  }

  async #coreDumps(): Promise<PromiseFact> {
    return (await coresGoToDisk(this.#options.kernelRoot ?? "/"))
      ? lacking(
          "a core of mvm would be handed to a program or written",
          "start it by bin/mvm, and: sysctl -w kernel.core_pattern=core",
        )
      : kept("neither VMMs nor mvm leave one");
  }

  async #encryption(): Promise<PromiseFact> {
    const hasMapper = (await this.#kernelStat("dev/mapper/control")) !== undefined;
    const detail = "this version encrypts neither data disks nor snapshots";
    return lacking(
      hasMapper ? detail : `${detail}, and this host has no device-mapper`,
      "none in this version; waive it, or wait",
    );
  }

  /** Root's privileges in what answers the network are what the promise is against; an operator at the terminal is root by right. */
  async #privilegeSeparation(): Promise<PromiseFact> {
    const { roots, servesNetwork = false } = this.#options;
    const status = (await this.#kernelFile("proc/self/status")) ?? "";
    const uid = /^Uid:\s+\d+\s+(\d+)/m.exec(status)?.[1];
    const capabilities = /^CapEff:\s+([0-9a-f]+)$/m.exec(status)?.[1];
    if (uid !== undefined && uid !== "0" && /^0+$/.test(capabilities ?? "")) {
      return kept("no privileges here; hostd does what needs root");
    }
    const fix = "mvm add host, and run the daemon as its user beside mvm hostd serve";
    if (servesNetwork) return lacking("the daemon has privileges of root's", fix);
    return stateOwner(roots) === undefined
      ? lacking("the records are root's: no daemon without privileges can work here", fix)
      : kept("the records are those of a daemon without privileges");
  }

  async #audit(): Promise<PromiseFact> {
    return (await new NodeSigner(this.#options.roots.stateDir).sign("")) === undefined
      ? lacking(
          "no head of a log can be signed: this node has no certificate",
          "mvm agent certs install",
        )
      : kept("hash-chained, with heads signed by this node's key");
  }

  async #kernelFile(path: string): Promise<string | undefined> {
    return readFileIfAny(join(this.#options.kernelRoot ?? "/", path));
  }

  async #kernelStat(path: string): Promise<unknown> {
    return statIfAny(join(this.#options.kernelRoot ?? "/", path));
  }
}

/** What cannot be looked at is not kept: nobody knows. */
async function looked(look: () => Promise<PromiseFact>): Promise<PromiseFact> {
  try {
    return await look();
  } catch (error) {
    if (!isSystemError(error) && !(error instanceof MvmError)) throw error;
    return lacking(`it cannot be looked at: ${describeError(error)}`, "mend what is said there");
  }
}

function kept(detail: string): PromiseFact {
  return { kept: true, detail, fix: "" };
}

function lacking(detail: string, fix: string): PromiseFact {
  return { kept: false, detail, fix };
}

async function isOnPath(program: string): Promise<boolean> {
  for (const folder of (plainEnvironment["PATH"] ?? "").split(":")) {
    try {
      await access(join(folder, program));
      return true;
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
  }
  return false;
}
