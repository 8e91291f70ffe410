import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { BuildFolders } from "../../../src/image/build-record.ts";
import { BuildSweeper } from "../../../src/image/build-sweeper.ts";
import { GithubFlakes } from "../../../src/image/github-flake.ts";
import { ImageStore } from "../../../src/image/image-store.ts";
import type { BuilderNetwork } from "../../../src/ports/builder-network.ts";
import type { Vmm, VmmProcess } from "../../../src/ports/vmm.ts";

const dead = "b-00000001";
const alive = "b-00000002";
const beginning = "b-00000003";

describe("a sweep after builds", () => {
  let root: string;
  let folders: BuildFolders;
  let store: ImageStore;
  let networks: string[];
  let processes: VmmProcess[];
  /** Called when the sweep asks for networks, which is before it reads records. */
  let meanwhile: () => Promise<void>;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "mvm-sweep-"));
    folders = new BuildFolders(root);
    store = new ImageStore(root);
    networks = [];
    processes = [];
    meanwhile = () => Promise.resolve();
  });
  afterEach(() => rm(root, { recursive: true }));

  const sweeper = (): BuildSweeper => {
    const network: BuilderNetwork = {
      open: () => Promise.reject(new Error("nothing is built here")),
      close: async (buildId) => {
        networks = networks.filter((other) => other !== buildId);
      },
      list: async () => {
        const seen = [...networks];
        await meanwhile();
        return seen;
      },
    };
    const vmm: Pick<Vmm, "list" | "stop"> = {
      list: () => Promise.resolve(processes),
      stop: async ({ id }) => {
        processes = processes.filter((other) => other.id !== id);
      },
    };
    return new BuildSweeper({
      vmm: vmm as Vmm,
      network,
      runRoot: join(root, "run"),
      store,
      folders,
      github: new GithubFlakes({
        folder: join(root, "flakes"),
        download: { get: () => assert.fail("nothing is fetched here") },
        nowMs: () => Date.now(),
      }),
    });
  };
  const begin = async (buildId: string): Promise<void> => {
    await folders.begin({
      build_id: buildId,
      key: "0".repeat(64),
      flake_ref: "x",
      started_at: "now",
    });
    await haveAll(buildId);
  };
  const haveAll = async (buildId: string): Promise<void> => {
    await store.begin(buildId);
    networks.push(buildId);
    processes.push({ id: buildId, runDir: join(root, "run", buildId), pid: 1, startTicks: 1 });
  };

  it("takes all of a build whose mvm is gone, and nothing of one that lives", async () => {
    await begin(alive);
    await haveAll(dead);
    const removed = [
      `builder microVM ${dead}`,
      `unfinished image of build ${dead}`,
      `network of build ${dead}`,
    ];
    assert.deepEqual(await sweeper().leftovers(), removed);
    assert.deepEqual(await sweeper().sweep(), removed);
    assert.deepEqual(networks, [alive]);
    assert.deepEqual(
      processes.map(({ id }) => id),
      [alive],
    );
    assert.deepEqual((await readdir(join(root, "images"))).toSorted(), [`.new-${alive}`, "by-key"]);
    assert.deepEqual(await sweeper().sweep(), []);
  });

  it("takes nothing of a build that begins while it looks", async () => {
    meanwhile = async () => {
      meanwhile = () => Promise.resolve();
      await begin(beginning);
    };
    assert.deepEqual(await sweeper().sweep(), []);
    assert.deepEqual(networks, [beginning]);
    assert.ok((await readdir(join(root, "images"))).includes(`.new-${beginning}`));
  });

  it("gives a build a minute to write its record into its new folder", async () => {
    const folder = join(root, "builds", beginning);
    await mkdir(folder, { recursive: true });
    assert.deepEqual(await sweeper().sweep(), []);
    const twoMinutesAgo = new Date(Date.now() - 120_000);
    await utimes(folder, twoMinutesAgo, twoMinutesAgo);
    assert.deepEqual(await sweeper().sweep(), [`scratch files of build ${beginning}`]);
    assert.deepEqual(await readdir(join(root, "builds")), []);
  });
});
