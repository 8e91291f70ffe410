import type { AuditEvent } from "../../domain/audit.ts";
import { NotFoundError } from "../../domain/errors.ts";
import { type PoolAddress, formatPool } from "../../domain/ids.ts";
import { type Pool, withCurrentRevision } from "../../domain/pool.ts";
import type { Revision } from "../../domain/revision.ts";
import type { NodeContext } from "../context.ts";
import { requirePromises } from "../production.ts";
import { findPool, loadTenant } from "../records.ts";

const maxAttempts = 3;

export interface BuildOptions {
  /** Default: the node's. */
  readonly timeoutMs?: number;
  /** Whether the builder may reach what lies outside this host. Default false. */
  readonly network?: boolean;
  /** Whether the builder works in the tenant's own kept Nix store. Default false. */
  readonly keepStore?: boolean;
}

/** Builds a pool's image, makes it the pool's current revision and forgets the ones beyond the last five. */
export async function buildImage(
  context: NodeContext,
  address: PoolAddress,
  options: BuildOptions = {},
): Promise<Revision> {
  const pool = findPool(await loadTenant(context, address.tenant), address);
  const request = {
    flakeRef: pool.flake_ref,
    profile: pool.profile,
    role: pool.role,
    timeoutMs: options.timeoutMs ?? context.settings.buildTimeoutMs,
    network: options.network ?? false,
    ...(options.keepStore === true ? { storeOf: address.tenant } : {}),
    signal: context.signal,
    onProgress: (line: string): void => context.onProgress(`${formatPool(address)}: ${line}`),
  };
  // A builder is a microVM too, and runs what the flake says.
  await requirePromises(context, address.tenant, { object: formatPool(address), command: "build" });
  for (const line of await context.builder.sweep()) {
    context.onProgress(`removed what a build that died left: ${line}`);
  }
  for (let attempt = 1; ; attempt += 1) {
    const key = await context.builder.key(request);
    const revision = await context.locks.withBuild(key, `building ${formatPool(address)}`, () =>
      context.builder.build(request),
    );
    try {
      await makeCurrent(
        context,
        address,
        revision.hash,
        {
          type: "ImageBuilt",
          object: formatPool(address),
          revision: revision.hash,
          flake_ref: revision.flake_ref,
          locked_url: revision.locked_url,
        },
        { built_from: { flake_ref: request.flakeRef, profile: request.profile } },
      );
      return revision;
    } catch (error) {
      // Between the build and its record, another command may have removed it as nobody's.
      if (!(error instanceof NotFoundError) || attempt === maxAttempts) throw error;
      context.onProgress(`${formatPool(address)}: the image was removed meanwhile; building again`);
    }
  }
}

/** Makes an image that is in the store the one that new starts of a pool use; `event` tells of it, `changes` are of the pool's record. With `inPlaceOf` only while that one is current. */
export async function makeCurrent(
  context: NodeContext,
  address: PoolAddress,
  hash: string,
  event: AuditEvent,
  changes: Partial<Pick<Pool, "built_from" | "rejected_revision">> = {},
  inPlaceOf?: string,
): Promise<void> {
  await context.locks.withNode("recording an image", async () => {
    // Under the lock that removes unused images: one that nothing referred to yet may be gone.
    await context.images.files(hash);
    const pool = findPool(await loadTenant(context, address.tenant), address);
    // Another one became current meanwhile: what was to be replaced is so already.
    if (inPlaceOf !== undefined && pool.revisions[0] !== inPlaceOf) return;
    const revisions = withCurrentRevision(pool.revisions, hash);
    await context.audit.append(address.tenant, event);
    const rejected_revision = pool.rejected_revision === hash ? null : pool.rejected_revision;
    await context.store.savePool({ ...pool, revisions, rejected_revision, ...changes });
    await context.images.link(address, revisions);
  });
  context.onProgress(`${formatPool(address)}: image ${hash.slice(0, 12)} is current`);
}
