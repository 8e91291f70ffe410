import { access } from "node:fs/promises";
import type { Finding } from "../../ports/host-setup.ts";
import { isErrno, readFileIfAny } from "../files.ts";
import type { Roots } from "../roots.ts";
import { stateOwner } from "../state-owner.ts";
import { hasCgroupControllers } from "./cgroups.ts";
import { coresGoToDisk } from "./core-dumps.ts";

// How a host stands in what mvm only looks at.

export async function swapFinding(): Promise<Finding> {
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

export async function coreDumpFinding(): Promise<Finding> {
  const feature = "core dumps";
  return (await coresGoToDisk("/"))
    ? {
        feature,
        status: "warning",
        detail: "VMMs write none; what mvm holds in memory may be written when it crashes",
        fix: "start it by bin/mvm, and: sysctl -w kernel.core_pattern=core",
      }
    : { feature, status: "ok", detail: "VMMs and mvm write none", fix: "" };
}

export async function deviceFinding(
  feature: string,
  path: string,
  fix: string,
  detail: string,
): Promise<Finding> {
  try {
    await access(path);
    return { feature, status: "ok", detail, fix: "" };
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
    return { feature, status: "warning", detail: `no ${path}: ${detail}`, fix };
  }
}

export async function cgroupFinding(): Promise<Finding> {
  return (await hasCgroupControllers("/", ["memory"]))
    ? { feature: "cgroup v2", status: "ok", detail: "memory and cpu controllers", fix: "" }
    : {
        feature: "cgroup v2",
        status: "warning",
        detail: "no memory controller: guests are bounded by QEMU alone",
        fix: "boot with systemd.unified_cgroup_hierarchy=1",
      };
}

/** Whether agentd has a user of its own. */
export function privilegeFinding(roots: Roots): Finding {
  const feature = "privilege separation";
  const owner = stateOwner(roots);
  return owner === undefined
    ? {
        feature,
        status: "warning",
        detail: "everything runs as root, in one process",
        fix: "on a machine with systemd: mvm add host",
      }
    : {
        feature,
        status: "ok",
        detail: `records are user ${owner.uid}'s, all else root's`,
        fix: "",
      };
}
