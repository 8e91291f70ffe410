import { describeError } from "../domain/errors.ts";
import { type PoolAddress, formatPool } from "../domain/ids.ts";
import { type Pool, findRevision } from "../domain/pool.ts";
import type { Revision } from "../domain/revision.ts";
import { type BuildOptions, buildImage, makeCurrent } from "./actions/build.ts";
import type { NodeContext } from "./context.ts";
import { note } from "./refuse.ts";
import { allowChange } from "./management.ts";
import { findPool, loadTenant } from "./records.ts";
import { collectImages } from "./tenants.ts";

/** Builds a pool's image anew. Instances that run keep the image they booted from until they are started again. */
export async function buildPool(
  context: NodeContext,
  address: PoolAddress,
  options: BuildOptions,
  overrideMs?: number,
): Promise<Revision> {
  const object = formatPool(address);
  const revision = await context.locks.withTenant(
    address.tenant,
    `building ${object}`,
    async () => {
      await takeForChange(context, address, "pool build", overrideMs);
      try {
        return await buildImage(context, address, options);
      } catch (error) {
        if (context.signal.aborted) throw error;
        const cause = describeError(error);
        const action = "build-image";
        await note(context, address.tenant, { type: "ActionFailed", object, action, cause });
        throw error;
      }
    },
  );
  await collectImages(context);
  return revision;
}

/**
 * Makes an earlier image of a pool current again, without a build. Instances that run keep the image they
 * booted from until they are started again. Rolling back to the current one puts its links right.
 * @param revision a hash, or the beginning of one @returns the whole hash
 * @throws NotFoundError when it is none of the pool's, or no longer in the store.
 */
export async function rollbackPool(
  context: NodeContext,
  address: PoolAddress,
  revision: string,
  overrideMs?: number,
): Promise<string> {
  const object = formatPool(address);
  return context.locks.withTenant(address.tenant, `rolling back ${object}`, async () => {
    const hash = await planRollback(context, address, revision);
    const pool = await takeForChange(context, address, "pool rollback", overrideMs);
    await makeCurrent(context, address, hash, {
      type: "ImageRolledBack",
      object,
      revision: hash,
      from: pool.revisions[0] ?? hash,
    });
    return hash;
  });
}

/** The image that `rollbackPool` would make current, with nothing changed. */
export async function planRollback(
  context: NodeContext,
  address: PoolAddress,
  revision: string,
): Promise<string> {
  const pool = findPool(await loadTenant(context, address.tenant), address);
  const hash = findRevision(pool.revisions, revision);
  await context.images.files(hash);
  return hash;
}

/** A pool that an operator's command may change now. @throws ConflictError when a document manages it and `overrideMs` is not given. */
async function takeForChange(
  context: NodeContext,
  address: PoolAddress,
  command: string,
  overrideMs: number | undefined,
): Promise<Pool> {
  const pool = findPool(await loadTenant(context, address.tenant), address);
  const object = formatPool(address);
  const change = { tenant: address.tenant, object, command, overrideMs };
  const override_until = await allowChange(context, pool, change);
  if (override_until === pool.override_until) return pool;
  const taken = { ...pool, override_until };
  await context.store.savePool(taken);
  return taken;
}
