import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { ConflictError, MvmError, OperationError } from "../domain/errors.ts";
import type { TenantId } from "../domain/ids.ts";
import type { Revision } from "../domain/revision.ts";
import { isErrno, readFileIfAny } from "../host/files.ts";
import type { BuilderNetwork } from "../ports/builder-network.ts";
import type { Download } from "../ports/download.ts";
import type { Exec } from "../ports/exec.ts";
import type { BuildRequest, ImageBuilder } from "../ports/image-builder.ts";
import type { Vmm } from "../ports/vmm.ts";
import type { BuildAnswer } from "./build-answer.ts";
import { addInputs, checkLocked, requireLocks } from "./build-inputs.ts";
import { buildKey } from "./build-key.ts";
import { BuildFolders } from "./build-record.ts";
import { BuildSweeper } from "./build-sweeper.ts";
import { requireFree, runBuilder } from "./builder-vm.ts";
import { checkExt4, checkKernel } from "./complete-image.ts";
import { copyFlake, findFlake, readProfiles, type FlakeSource } from "./flake-source.ts";
import { GithubFlakes, isGithubRef } from "./github-flake.ts";
import { makeRootfs, writeGuestInitrd, writeRootfs, type ImagePlaces } from "./guest-image.ts";
import { ImageStore, linkOrCopy } from "./image-store.ts";
import { narHash } from "./nar.ts";
import type { Profiles } from "./profiles.ts";
import { chooseServices } from "./services.ts";
import { StoreDisks } from "./store-disk.ts";
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
  readonly download: Download;
  readonly network: BuilderNetwork;
  /** Where GitHub's API is; default GitHub itself. */
  readonly githubApiUrl?: string;
  /** Whether a build that was done before is answered from the store. Default true. */
  readonly cache?: boolean;
}

/** What a small image takes while it is built; a larger one ends when the disk is nearly full. */
const leastFreeBytes = 1024 ** 3;

/** One build under way: what it is of, and the folders it works in. */
interface Build {
  readonly source: FlakeSource;
  readonly key: string;
  readonly request: BuildRequest;
  readonly buildId: string;
  readonly folder: string;
  readonly image: string;
}

/** Builds images with Nix in a microVM that lives for one build. */
export class MicrovmImageBuilder implements ImageBuilder {
  readonly #options: MicrovmImageBuilderOptions;
  readonly #places: ImagePlaces;
  readonly #store: ImageStore;
  readonly #folders: BuildFolders;
  readonly #runRoot: string;
  readonly #github: GithubFlakes;
  readonly #stores: StoreDisks;
  readonly #sweeper: BuildSweeper;

  constructor(options: MicrovmImageBuilderOptions) {
    this.#options = options;
    this.#places = { payloads: join(options.stateDir, "payloads"), project: options.projectDir };
    this.#store = new ImageStore(options.stateDir);
    this.#folders = new BuildFolders(options.stateDir);
    this.#runRoot = join(options.runDir, "b");
    this.#stores = new StoreDisks({ stateDir: options.stateDir, exec: options.exec });
    this.#github = new GithubFlakes({
      folder: join(options.stateDir, "flakes"),
      download: options.download,
      nowMs: () => options.now().getTime(),
      ...(options.githubApiUrl === undefined ? {} : { apiUrl: options.githubApiUrl }),
    });
    this.#sweeper = new BuildSweeper({
      vmm: options.vmm,
      network: options.network,
      runRoot: this.#runRoot,
      store: this.#store,
      folders: this.#folders,
      github: this.#github,
    });
  }

  async build(request: BuildRequest): Promise<Revision> {
    const source = await this.#find(request);
    // What was built without a kept store is anybody's; what was built with one is its tenant's.
    const shared = await buildKey(this.#places, source.folder, request);
    const key = await buildKey(this.#places, source.folder, request, request.storeOf);
    const ready = (await this.#cached(shared, request)) ?? (await this.#cached(key, request));
    return ready ?? (await this.#buildNew(source, key, request));
  }

  async key(request: BuildRequest): Promise<string> {
    const source = await this.#find(request);
    return buildKey(this.#places, source.folder, request, request.storeOf);
  }

  async retainStores(tenants: ReadonlySet<TenantId>): Promise<void> {
    await this.#stores.retain(tenants);
  }

  #find({ flakeRef, signal }: BuildRequest): Promise<FlakeSource> {
    return isGithubRef(flakeRef)
      ? this.#github.find(flakeRef, signal)
      : findFlake(flakeRef, this.#options.projectDir);
  }

  leftovers(): Promise<string[]> {
    return this.#sweeper.leftovers();
  }

  sweep(): Promise<string[]> {
    return this.#sweeper.sweep();
  }

  async #cached(key: string, request: BuildRequest): Promise<Revision | undefined> {
    if (this.#options.cache === false) return undefined;
    const revision = await this.#store.findByKey(key);
    if (revision !== undefined) {
      request.onProgress(`image ${revision.hash.slice(0, 12)} was built before`);
    }
    return revision;
  }

  async #buildNew(source: FlakeSource, key: string, request: BuildRequest): Promise<Revision> {
    const buildId = `b-${randomBytes(4).toString("hex")}`;
    const startedAt = this.#options.now().toISOString();
    await requireFree(this.#options.stateDir, leastFreeBytes);
    const folder = await this.#folders.begin({
      build_id: buildId,
      key,
      flake_ref: source.flakeRef,
      started_at: startedAt,
    });
    try {
      const image = await this.#store.begin(buildId);
      return await this.#makeImage({ source, key, request, buildId, folder, image });
    } catch (error) {
      const log = await this.#folders.keepLog(buildId, key);
      throw buildError(source.flakeRef, error, log);
    } finally {
      // In this order: while the record is there, a sweep knows of the rest.
      if (request.network === true) await this.#options.network.close(buildId);
      await this.#store.abandon(buildId);
      await rm(join(this.#runRoot, buildId), { recursive: true, force: true });
      await this.#folders.remove(buildId);
    }
  }

  async #makeImage(build: Build): Promise<Revision> {
    const { source, request, folder, image } = build;
    const signalOption = request.signal === undefined ? {} : { signal: request.signal };
    const inputTree = join(folder, "input");
    const flake = join(inputTree, "flake");
    await copyFlake(source, flake);
    if ((await buildKey(this.#places, flake, request, request.storeOf)) !== build.key) {
      throw new ConflictError(`${source.folder} changed while it was read`);
    }
    const profiles = await readProfiles(flake);
    const { exec } = this.#options;
    const { role, profile } = request;
    const link =
      request.network === true ? await this.#options.network.open(build.buildId) : undefined;
    const linkOption = link === undefined ? {} : { link };
    const store =
      request.storeOf === undefined
        ? undefined
        : await this.#stores.take(request.storeOf, folder, request.signal);
    const inputs = await addInputs({
      exec,
      places: this.#places,
      inputTree,
      profiles,
      role,
      profile,
      ...linkOption,
      ...signalOption,
    });
    const flakeHash = await narHash(flake);
    const output = await runBuilder({
      vmm: this.#options.vmm,
      exec,
      places: this.#places,
      buildId: build.buildId,
      workFolder: folder,
      inputTree,
      runDir: join(this.#runRoot, build.buildId),
      logDir: join(folder, "logs"),
      uid: this.#options.uid,
      timeoutMs: request.timeoutMs,
      onProgress: request.onProgress,
      ...linkOption,
      ...(store === undefined ? {} : { store }),
      ...signalOption,
    });

    request.onProgress("making the root file system");
    const tree = join(folder, "tree");
    const built = await unpackOutput(output, { tree, image }, request.signal);
    checkLocked(built, flakeHash, inputs);
    requireLocks(built.inputs, await readFileIfAny(join(flake, "flake.lock")));
    await this.#completeImage(build, built, profiles, tree);
    const revision = await this.#store.commit(image, build.key, {
      flake_ref: source.flakeRef,
      locked_url: `${source.url}?narHash=${encodeURIComponent(flakeHash)}`,
      nar_hash: flakeHash,
      inputs: built.inputs,
      package: built.attribute,
      profile: request.profile,
      role: request.role,
      built_at: this.#options.now().toISOString(),
      built_by: this.#options.builtBy,
    });
    request.onProgress(`image ${revision.hash.slice(0, 12)} is ready`);
    return revision;
  }

  /** Makes what the image lacks yet of kernel, initrd and root file system. */
  async #completeImage(
    { request, image }: Build,
    built: BuildAnswer,
    profiles: Profiles,
    tree: string,
  ): Promise<void> {
    const { exec } = this.#options;
    const signalOption = request.signal === undefined ? {} : { signal: request.signal };
    const rootfs = { tree, image: join(image, "rootfs.ext4"), ...signalOption };
    if (built.kind === "complete") {
      await checkKernel(join(image, "kernel"));
      if (built.rootfs === "image") await checkExt4(rootfs.image);
      else await makeRootfs(exec, rootfs);
      return;
    }
    const services = chooseServices(profiles, request.role, request.profile, built);
    await linkOrCopy(join(this.#places.payloads, "kernel", "vmlinuz"), join(image, "kernel"));
    await writeGuestInitrd(this.#places, join(image, "initrd"));
    await writeRootfs(exec, this.#places, { ...rootfs, role: request.role, services });
  }
}

/** Keeps an error's class, which is its exit code, and adds what was built and where the log is. */
function buildError(flakeRef: string, error: unknown, log: string): Error {
  if (error instanceof MvmError && error.code !== "failed") return error;
  const why = isErrno(error, "ENOSPC")
    ? "no space left on the disk of the state folder"
    : error instanceof Error
      ? error.message
      : String(error);
  return new OperationError(`the build of ${flakeRef} failed: ${why}`, {
    hint: [
      ...(error instanceof MvmError && error.hint !== undefined ? [error.hint] : []),
      `the builder's console is in ${log}`,
    ].join("; "),
    cause: error,
  });
}
