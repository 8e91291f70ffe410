import { type PoolAddress, formatPool } from "../../domain/ids.ts";
import type { NodeContext } from "../context.ts";
import { findPool, loadTenant } from "../records.ts";
import { makeCurrent } from "./build.ts";

/** Writes down that all instances of a pool are well with an image. */
export async function confirmImage(
  context: NodeContext,
  address: PoolAddress,
  revision: string,
): Promise<void> {
  const pool = findPool(await loadTenant(context, address.tenant), address);
  // Another one may have become current since this was planned.
  if (pool.good_revision === revision || pool.revisions[0] !== revision) return;
  const object = formatPool(address);
  await context.audit.append(address.tenant, { type: "ImageConfirmed", object, revision });
  await context.store.savePool({ ...pool, good_revision: revision });
}

/** Makes the last good image of a pool current again, in place of one whose instances do not become healthy. */
export async function rollbackImage(
  context: NodeContext,
  address: PoolAddress,
  revision: string,
  from: string,
): Promise<void> {
  const pool = findPool(await loadTenant(context, address.tenant), address);
  if (pool.revisions[0] !== from) return;
  const object = formatPool(address);
  context.onProgress(
    `${object}: instances with image ${from.slice(0, 12)} do not become healthy: back to ${revision.slice(0, 12)}`,
  );
  const event = { type: "ImageRolledBack", object, revision, from } as const;
  await makeCurrent(context, address, revision, event, { rejected_revision: from }, from);
}
