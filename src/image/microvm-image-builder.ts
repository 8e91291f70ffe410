import { createHash, randomBytes } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ConflictError, HostLacksError, MvmError, OperationError } from "../domain/errors.ts";
import type { Revision } from "../domain/revision.ts";
import { isErrno, readFileIfAny, sha256OfFile } from "../host/files.ts";
import type { Exec } from "../ports/exec.ts";
import type { BuildRequest, ImageBuilder } from "../ports/image-builder.ts";
import type { Vmm, VmmProcess } from "../ports/vmm.ts";
import { BuildFolders } from "./build-record.ts";
import { runBuilder } from "./builder-vm.ts";
import {
  copyFlake,
  findFlake,
  isNotBuilt,
  readProfiles,
  type FlakeSource,
} from "./flake-source.ts";
import {
  checkGuestPrograms,
  guestPrograms,
  writeGuestInitrd,
  writeRootfs,
  type ImagePlaces,
} from "./guest-image.ts";
import { ImageStore, linkOrCopy } from "./image-store.ts";
import {
  chooseServices,
  packageNames,
  payloadInputs,
  wantedPayloads,
  type Profiles,
} from "./profiles.ts";
import { hashTree } from "./tree.ts";
import { unpackOutput } from "./unpack.ts";

export interface MicrovmImageBuilderOptions {
  readonly stateDir: string;
  readonly runDir: string;
  /** The folder of mvm itself, where `nix/` and `dist/guest/` are. */
  readonly projectDir: string;
  readonly exec: Exec;
  readonly vmm: Vmm;
  /** The unprivileged user of the builder's VMM. */
  readonly uid: number;
  /** For a revision's `built_by`. */
  readonly builtBy: string;
  readonly now: () => Date;
  /** Whether a build that was done before is answered from the store. Default true. */
  readonly cache?: boolean;
}

/** Changes when an image made from the same parts would come out differently. */
const pipelineVersion = 1;

/** Builds images with Nix in a microVM that lives for one build. */
export class MicrovmImageBuilder implements ImageBuilder {
  readonly #options: MicrovmImageBuilderOptions;
  readonly #places: ImagePlaces;
  readonly #store: ImageStore;
  readonly #folders: BuildFolders;
  readonly #runRoot: string;

  constructor(options: MicrovmImageBuilderOptions) {
    this.#options = options;
    this.#places = { payloads: join(options.stateDir, "payloads"), project: options.projectDir };
    this.#store = new ImageStore(options.stateDir);
    this.#folders = new BuildFolders(options.stateDir);
    this.#runRoot = join(options.runDir, "b");
  }

  async build(request: BuildRequest): Promise<Revision> {
    const source = await findFlake(request.flakeRef, this.#options.projectDir);
    const key = await this.#keyOf(source, request);
    const ready = await this.#cached(key, request);
    return ready ?? (await this.#buildNew(source, key, request));
  }

  /**
   * Names all that an image is made of: the flake's content, profile, role, the payloads and mvm's own
   * parts of the guest. 64 hex digits. @throws as `build` does before it starts a builder.
   */
  async key(request: BuildRequest): Promise<string> {
    return this.#keyOf(await findFlake(request.flakeRef, this.#options.projectDir), request);
  }

  async leftovers(): Promise<string[]> {
    const { isAlive, vmms, buildIds } = await this.#dead();
    return [
      ...vmms.map(({ id }) => `builder microVM ${id}`),
      ...buildIds.map((buildId) => `scratch files of build ${buildId}`),
      ...(await this.#store.unfinished(isAlive)).map((name) => `unfinished image ${name}`),
    ];
  }

  async sweep(): Promise<string[]> {
    const removed = await this.leftovers();
    const { isAlive, vmms, buildIds } = await this.#dead();
    for (const process of vmms) {
      await this.#options.vmm.stop(process, 0);
      await rm(process.runDir, { recursive: true, force: true });
    }
    for (const buildId of buildIds) {
      await rm(join(this.#runRoot, buildId), { recursive: true, force: true });
      await this.#folders.remove(buildId);
    }
    await this.#store.sweep(isAlive);
    return removed;
  }

  /** Builders and build folders whose mvm no longer lives. */
  async #dead(): Promise<{
    isAlive: (buildId: string) => boolean;
    vmms: VmmProcess[];
    buildIds: string[];
  }> {
    const builds = await this.#folders.list();
    const isAlive = (buildId: string): boolean => builds.get(buildId) === true;
    const vmms = await this.#options.vmm.list(this.#runRoot);
    return {
      isAlive,
      vmms: vmms.filter(({ id }) => !isAlive(id)),
      buildIds: [...builds.keys()].filter((buildId) => !isAlive(buildId)),
    };
  }

  async #cached(key: string, request: BuildRequest): Promise<Revision | undefined> {
    if (this.#options.cache === false) return undefined;
    const revision = await this.#store.findByKey(key);
    if (revision !== undefined) {
      request.onProgress(`image ${revision.hash.slice(0, 12)} was built before`);
    }
    return revision;
  }

  async #keyOf(
    source: FlakeSource,
    request: Pick<BuildRequest, "profile" | "role">,
  ): Promise<string> {
    await checkGuestPrograms(this.#places, request.role);
    const manifest = await readFileIfAny(join(this.#places.payloads, "manifest.json"));
    if (manifest === undefined) {
      throw new HostLacksError("this host is not prepared for builds", {
        hint: "run `mvm add host`",
      });
    }
    const guest = join(this.#options.projectDir, "dist", "guest");
    const parts = {
      version: pipelineVersion,
      flake: await hashTree(source.folder, isNotBuilt),
      profile: request.profile,
      role: request.role,
      payloads: JSON.parse(manifest) as unknown,
      guest: await hashTree(join(this.#options.projectDir, "nix", "guest")),
      builder: await hashTree(join(this.#options.projectDir, "nix", "builder")),
      programs: await Promise.all(
        guestPrograms(request.role).map((name) => sha256OfFile(join(guest, name))),
      ),
    };
    return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
  }

  async #buildNew(source: FlakeSource, key: string, request: BuildRequest): Promise<Revision> {
    const buildId = `b-${randomBytes(4).toString("hex")}`;
    const startedAt = this.#options.now().toISOString();
    const folder = await this.#folders.begin({
      build_id: buildId,
      key,
      flake_ref: source.flakeRef,
      started_at: startedAt,
    });
    const image = await this.#store.begin(buildId);
    try {
      return await this.#makeImage({ source, key, request, buildId, folder, image });
    } catch (error) {
      const log = await this.#folders.keepLog(buildId, key);
      throw buildError(source.flakeRef, error, log);
    } finally {
      // In this order: while the record is there, a sweep knows of the rest.
      await rm(image, { recursive: true, force: true });
      await rm(join(this.#runRoot, buildId), { recursive: true, force: true });
      await this.#folders.remove(buildId);
    }
  }

  async #makeImage(build: {
    readonly source: FlakeSource;
    readonly key: string;
    readonly request: BuildRequest;
    readonly buildId: string;
    readonly folder: string;
    readonly image: string;
  }): Promise<Revision> {
    const { source, request, folder, image } = build;
    const signalOption = request.signal === undefined ? {} : { signal: request.signal };
    const inputTree = join(folder, "input");
    const flake = join(inputTree, "flake");
    await copyFlake(source, flake);
    if ((await this.#keyOf({ ...source, folder: flake }, request)) !== build.key) {
      throw new ConflictError(`${source.folder} changed while it was read`);
    }
    const profiles = await readProfiles(flake);
    await this.#addInputs(inputTree, profiles, request);
    const output = await runBuilder({
      vmm: this.#options.vmm,
      exec: this.#options.exec,
      places: this.#places,
      buildId: build.buildId,
      workFolder: folder,
      inputTree,
      runDir: join(this.#runRoot, build.buildId),
      logDir: join(folder, "logs"),
      uid: this.#options.uid,
      timeoutMs: request.timeoutMs,
      onProgress: request.onProgress,
      ...signalOption,
    });

    request.onProgress("making the root file system");
    const tree = join(folder, "tree");
    const built = await unpackOutput(output, tree, request.signal);
    const services = chooseServices(profiles, request.role, built);
    await linkOrCopy(join(this.#places.payloads, "kernel", "vmlinuz"), join(image, "kernel"));
    await writeGuestInitrd(this.#places, join(image, "initrd"));
    await writeRootfs(this.#options.exec, this.#places, {
      tree,
      image: join(image, "rootfs.ext4"),
      role: request.role,
      services,
      ...signalOption,
    });
    const revision = await this.#store.commit(image, build.key, {
      flake_ref: source.flakeRef,
      locked_url: `${source.url}?narHash=${encodeURIComponent(built.narHash)}`,
      nar_hash: built.narHash,
      profile: request.profile,
      role: request.role,
      built_at: this.#options.now().toISOString(),
      built_by: this.#options.builtBy,
    });
    request.onProgress(`image ${revision.hash.slice(0, 12)} is ready`);
    return revision;
  }

  async #addInputs(inputTree: string, profiles: Profiles, request: BuildRequest): Promise<void> {
    const { payloads } = this.#places;
    const wanted = packageNames(profiles, request.role, request.profile);
    await writeFile(join(inputTree, "attributes"), `${wanted.join("\n")}\n`);
    await mkdir(join(inputTree, "tools"));
    const busybox = await readFile(join(payloads, "base", "tree", "bin", "busybox"));
    await writeFile(join(inputTree, "tools", "busybox"), busybox, { mode: 0o755 });
    const wantedInputs = wantedPayloads(profiles, request.role);
    for (const name of payloadInputs) {
      // Nix reads all inputs of a flake: one that this role does not need is there and empty.
      await mkdir(join(inputTree, name));
      if (!wantedInputs.includes(name)) continue;
      try {
        await linkOrCopy(join(payloads, name, `${name}.tar`), join(inputTree, name, `${name}.tar`));
      } catch (error) {
        if (!isErrno(error, "ENOENT")) throw error;
        throw new HostLacksError(`${name} is not prepared on this host`, {
          hint: "run `mvm add host`",
          cause: error,
        });
      }
    }
  }
}

/** Keeps an error's class, which is its exit code, and adds what was built and where the log is. */
function buildError(flakeRef: string, error: unknown, log: string): Error {
  if (error instanceof MvmError && error.code !== "failed") return error;
  const why = error instanceof Error ? error.message : String(error);
  return new OperationError(`the build of ${flakeRef} failed: ${why}`, {
    hint: `the builder's console is in ${log}`,
    cause: error,
  });
}
