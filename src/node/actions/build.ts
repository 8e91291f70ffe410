import { type PoolAddress, formatPool } from "../../domain/ids.ts";
import { keptRevisions } from "../../domain/pool.ts";
import type { Revision } from "../../domain/revision.ts";
import type { NodeContext } from "../context.ts";
import { findPool, loadTenant } from "../records.ts";

/** Builds a pool's image, makes it the pool's current revision and forgets the ones beyond the last five. */
export async function buildImage(context: NodeContext, address: PoolAddress): Promise<Revision> {
  const pool = findPool(await loadTenant(context, address.tenant), address);
  const request = {
    flakeRef: pool.flake_ref,
    profile: pool.profile,
    role: pool.role,
    timeoutMs: context.settings.buildTimeoutMs,
    signal: context.signal,
    onProgress: (line: string): void => context.onProgress(`${formatPool(address)}: ${line}`),
  };
  for (const line of await context.builder.sweep()) {
    context.onProgress(`removed what a build that died left: ${line}`);
  }
  const key = await context.builder.key(request);
  const revision = await context.locks.withBuild(key, `building ${formatPool(address)}`, () =>
    context.builder.build(request),
  );
  await context.locks.withNode("recording an image", async () => {
    // Under the lock that removes unused images: one that nothing referred to yet may be gone.
    await context.images.files(revision.hash);
    const current = findPool(await loadTenant(context, address.tenant), address);
    const revisions = [
      revision.hash,
      ...current.revisions.filter((hash) => hash !== revision.hash),
    ].slice(0, keptRevisions);
    await context.audit.append(address.tenant, {
      type: "ImageBuilt",
      object: formatPool(address),
      revision: revision.hash,
      flake_ref: revision.flake_ref,
      locked_url: revision.locked_url,
    });
    await context.store.savePool({ ...current, revisions });
    await context.images.link(address, revisions);
  });
  context.onProgress(`${formatPool(address)}: image ${revision.hash.slice(0, 12)} is current`);
  return revision;
}
