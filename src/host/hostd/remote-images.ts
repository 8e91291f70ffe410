import type { PoolAddress, TenantId } from "../../domain/ids.ts";
import type { Revision } from "../../domain/revision.ts";
import type { BuildRequest, ImageBuilder } from "../../ports/image-builder.ts";
import type { ImageFiles, Images } from "../../ports/images.ts";
import type { BuildNames } from "../../protocol/hostd-operations.ts";
import type { HostdClient } from "./client.ts";

/** Before and after its builder a build fetches, copies and packs. */
const aroundBuildMs = 3_600_000;
const keyMs = 900_000;

/** Builds images in hostd, whose the content store is. */
export class RemoteImageBuilder implements ImageBuilder {
  readonly #hostd: HostdClient;

  constructor(hostd: HostdClient) {
    this.#hostd = hostd;
  }

  async key(request: BuildRequest): Promise<string> {
    const options = { timeoutMs: keyMs, signal: request.signal };
    return (await this.#hostd.call("BuildKey", { build: namesOf(request) }, options)).key;
  }

  async build(request: BuildRequest): Promise<Revision> {
    const options = {
      timeoutMs: request.timeoutMs + aroundBuildMs,
      signal: request.signal,
      onProgress: request.onProgress,
    };
    return (await this.#hostd.call("Build", { build: namesOf(request) }, options)).revision;
  }

  async leftovers(): Promise<string[]> {
    return (await this.#hostd.call("BuildLeftovers", {})).lines;
  }

  async sweep(): Promise<string[]> {
    return (await this.#hostd.call("BuildSweep", {})).lines;
  }

  async retainStores(tenants: ReadonlySet<TenantId>): Promise<void> {
    await this.#hostd.call("BuildRetainStores", { tenants: [...tenants] });
  }
}

/** The content store is everybody's to read, and the links of pools are agentd's; only hostd removes what is in it. */
export class RemoteImages implements Images {
  readonly #hostd: HostdClient;
  readonly #local: Images;

  constructor(hostd: HostdClient, local: Images) {
    this.#hostd = hostd;
    this.#local = local;
  }

  files(hash: string): Promise<ImageFiles> {
    return this.#local.files(hash);
  }

  describe(hash: string): Promise<Revision | undefined> {
    return this.#local.describe(hash);
  }

  link(pool: PoolAddress, revisions: readonly string[]): Promise<void> {
    return this.#local.link(pool, revisions);
  }

  async collect(kept: ReadonlySet<string>): Promise<string[]> {
    return (await this.#hostd.call("ImagesCollect", { kept: [...kept] })).removed;
  }
}

function namesOf(request: BuildRequest): BuildNames {
  const { flakeRef, profile, role, timeoutMs, storeOf, network } = request;
  return {
    flakeRef,
    profile,
    role,
    timeoutMs,
    storeOf: storeOf ?? null,
    network: network ?? false,
  };
}
