import type { ActionKind } from "../../src/planner/action.ts";
import {
  type WrittenDocument,
  type WrittenPool,
  type WrittenTenant,
  writtenDocument,
  writtenPool,
  writtenTenant,
} from "../builders/documents.ts";

/** The flake whose instances never become healthy. */
export const badFlake = "path:/bad";
const goodFlakes = ["path:/a", "path:/b"];

/** What stays the same in all documents of one seed, so that checkers know it at any time. */
export interface SeedTraits {
  readonly maxUnavailable: number;
  readonly maxRunning: number;
  /** Pools `<tenant>/<pool>` that are critical, and tenants that are pinned. */
  readonly critical: ReadonlySet<string>;
  readonly pinned: ReadonlySet<string>;
  /** How many of the pools have an image that is no good. */
  readonly badShare: number;
  /** How many of the tenants a document names. */
  readonly namedShare: number;
}

const tenantIds = ["ant", "bee"];

/** `aim` is the kind of action that the seed is about. */
export function traitsOf(random: () => number, aim: ActionKind | undefined): SeedTraits {
  return {
    maxUnavailable: random() < 0.7 ? 1 : 2,
    maxRunning: random() < 0.15 ? 2 : 16,
    critical: new Set(random() < 0.15 ? ["ant/jobs"] : []),
    pinned: new Set(random() < 0.15 ? ["bee"] : []),
    badShare: aim === "rollback-image" ? 0.4 : 0.12,
    namedShare: aim === "remove-tenant" ? 0.6 : 0.8,
  };
}

/** The document of a generation: like the one before, but for what a coordinator may change. */
export function randomDocument(random: () => number, traits: SeedTraits): WrittenDocument {
  const present = tenantIds.filter(() => random() < traits.namedShare);
  const tenants = present.map((id) => tenantOf(id, random, traits));
  return writtenDocument(tenants, {
    prune_unknown_tenants: random() < 0.6,
    prune_unknown_pools: random() < 0.6,
  });
}

function tenantOf(id: string, random: () => number, traits: SeedTraits): WrittenTenant {
  const pools: WrittenPool[] = [];
  const flake = (): string =>
    random() < traits.badShare ? badFlake : (goodFlakes[Math.floor(random() * 2)] ?? "path:/a");
  const pool = (name: string, running: number, warm: number): WrittenPool =>
    writtenPool(name, {
      flake_ref: flake(),
      role: name === "gate" ? "gateway" : "worker",
      instance_resources: { vcpus: 1, mem_mib: random() < 0.8 ? 256 : 512, data_disk_mib: 0 },
      desired_counts: { running, warm, sleeping: 0 },
      runtime_policy: { min_running_seconds: 10, min_warm_seconds: 5 },
      critical: traits.critical.has(`${id}/${name}`),
      update_strategy: {
        max_unavailable: traits.maxUnavailable,
        health_timeout_seconds: 40,
        rollback: true,
      },
    });
  if (random() < 0.5) pools.push(pool("gate", 1, 0));
  pools.push(pool("web", Math.floor(random() * 4), Math.floor(random() * 2)));
  if (random() < 0.5) pools.push(pool("jobs", Math.floor(random() * 3), Math.floor(random() * 2)));
  return writtenTenant(id, id === "ant" ? 3 : 4, pools, {
    pinned: traits.pinned.has(id),
    quota: { max_running: traits.maxRunning },
  });
}
