import { AsyncLocalStorage } from "node:async_hooks";
import type { Locks } from "../ports/locks.ts";

const order = ["tenant", "build", "node"] as const;
type Kind = (typeof order)[number];

/**
 * Locks that can only be taken in their order: two commands that each hold what the other waits for
 * would wait until one of them gives up. Taking one out of order is a defect, and is thrown as such
 * at once, by whoever tries it first, not by the two that meet one night.
 */
export function orderedLocks(locks: Locks): Locks {
  const held = new AsyncLocalStorage<Kind>();
  const within = <T>(kind: Kind, work: () => Promise<T>): (() => Promise<T>) => {
    const holding = held.getStore();
    if (holding !== undefined && order.indexOf(holding) >= order.indexOf(kind)) {
      throw new Error(`a ${kind} lock is taken while a ${holding} lock is held`);
    }
    return () => held.run(kind, work);
  };
  return {
    withTenant: async (tenant, what, work) =>
      locks.withTenant(tenant, what, within("tenant", work)),
    withBuild: async (key, what, work) => locks.withBuild(key, what, within("build", work)),
    withNode: async (what, work) => locks.withNode(what, within("node", work)),
  };
}
