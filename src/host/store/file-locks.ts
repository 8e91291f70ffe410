import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { TenantId } from "../../domain/ids.ts";
import type { Locks } from "../../ports/locks.ts";
import { acquireFileLock } from "../file-lock.ts";
import type { Roots } from "../roots.ts";
import { locksFolder, recordOwner } from "../state-owner.ts";

export interface LockWaits {
  readonly tenantMs: number;
  readonly buildMs: number;
  readonly nodeMs: number;
}

/** A build or a whole deployment may hold its lock for many minutes; the node lock is held for less than a second at a time. */
const defaultWaits: LockWaits = { tenantMs: 30_000, buildMs: 3_600_000, nodeMs: 120_000 };

/** Lock files under `<state>/locks`: in the state folder, so that emptying the run folder makes no second holder. */
export class FileLocks implements Locks {
  readonly #roots: Roots;
  readonly #folder: string;
  readonly #waits: LockWaits;
  readonly #signal: AbortSignal | undefined;

  constructor(roots: Roots, options: { waits?: LockWaits; signal?: AbortSignal } = {}) {
    this.#roots = roots;
    this.#folder = locksFolder(roots);
    this.#waits = options.waits ?? defaultWaits;
    this.#signal = options.signal;
  }

  async withTenant<T>(tenant: TenantId, what: string, work: () => Promise<T>): Promise<T> {
    return this.#with(`tenant-${tenant}`, what, this.#waits.tenantMs, work);
  }

  async withBuild<T>(key: string, what: string, work: () => Promise<T>): Promise<T> {
    return this.#with(`build-${key}`, what, this.#waits.buildMs, work);
  }

  async withNode<T>(what: string, work: () => Promise<T>): Promise<T> {
    return this.#with("node", what, this.#waits.nodeMs, work);
  }

  async #with<T>(name: string, what: string, waitMs: number, work: () => Promise<T>): Promise<T> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const lock = await acquireFileLock(join(this.#folder, `${name}.lock`), {
      waitMs,
      label: what,
      owner: recordOwner(this.#roots),
      ...(this.#signal === undefined ? {} : { signal: this.#signal }),
    });
    try {
      return await work();
    } finally {
      await lock.release();
    }
  }
}
