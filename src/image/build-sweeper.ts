import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { BuilderNetwork } from "../ports/builder-network.ts";
import type { Vmm, VmmProcess } from "../ports/vmm.ts";
import type { BuildFolders } from "./build-record.ts";
import type { GithubFlakes } from "./github-flake.ts";
import type { ImageStore } from "./image-store.ts";

export interface BuildSweeperOptions {
  readonly vmm: Vmm;
  readonly network: BuilderNetwork;
  /** Where the run folders of builders lie. */
  readonly runRoot: string;
  readonly store: ImageStore;
  readonly folders: BuildFolders;
  readonly github: GithubFlakes;
}

/** What builds that died left, by what it is. */
interface DeadBuilds {
  readonly vmms: readonly VmmProcess[];
  /** Build ids, here and below. */
  readonly networks: readonly string[];
  readonly images: readonly string[];
  readonly folders: readonly string[];
}

/** Finds and removes what belongs to builds whose mvm no longer lives. */
export class BuildSweeper {
  readonly #options: BuildSweeperOptions;

  constructor(options: BuildSweeperOptions) {
    this.#options = options;
  }

  /** What `sweep` would remove, a line each. */
  async leftovers(): Promise<string[]> {
    return describe(await this.#dead(), await this.#options.github.stale(false));
  }

  /** @returns what was removed, a line each. */
  async sweep(): Promise<string[]> {
    const { vmm, network, store, folders, github, runRoot } = this.#options;
    const dead = await this.#dead();
    for (const process of dead.vmms) {
      await vmm.stop(process, 0);
      await rm(process.runDir, { recursive: true, force: true });
    }
    for (const buildId of dead.networks) await network.close(buildId);
    for (const buildId of dead.images) await store.abandon(buildId);
    // The record last: while it is there, a sweep that is cut off is done again.
    for (const buildId of dead.folders) {
      await rm(join(runRoot, buildId), { recursive: true, force: true });
      await folders.remove(buildId);
    }
    return describe(dead, await github.stale(true));
  }

  /**
   * The records are read last: what was seen before was written down before, so a build that begins just
   * now is not taken for a dead one.
   */
  async #dead(): Promise<DeadBuilds> {
    const { vmm, network, store, folders, runRoot } = this.#options;
    const vmms = await vmm.list(runRoot);
    const networks = await network.list();
    const images = await store.unfinished();
    const builds = await folders.list();
    const isDead = (buildId: string): boolean => builds.get(buildId) !== true;
    return {
      vmms: vmms.filter(({ id }) => isDead(id)),
      networks: networks.filter(isDead),
      images: images.filter(isDead),
      folders: [...builds.keys()].filter(isDead),
    };
  }
}

function describe(dead: DeadBuilds, staleSources: readonly string[]): string[] {
  return [
    ...dead.vmms.map(({ id }) => `builder microVM ${id}`),
    ...dead.folders.map((buildId) => `scratch files of build ${buildId}`),
    ...dead.images.map((buildId) => `unfinished image of build ${buildId}`),
    ...dead.networks.map((buildId) => `network of build ${buildId}`),
    ...staleSources,
  ];
}
