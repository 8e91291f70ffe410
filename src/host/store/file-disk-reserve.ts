import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import type { DiskReserve } from "../../ports/disk-reserve.ts";
import { isErrno, statIfAny } from "../files.ts";
import { type Roots, agentFolder } from "../roots.ts";
import { ensureAgentFolder, recordOwner } from "../state-owner.ts";

/** Room for the audit lines and records of some hundred instances that are ended one after the other. */
const reserveBytes = 1024 * 1024;

/** Keeps the space as a file in the state folder: `agent/reserve`, 1 MiB, 0600. */
export class FileDiskReserve implements DiskReserve {
  readonly #roots: Roots;
  readonly #path: string;

  constructor(roots: Roots) {
    this.#roots = roots;
    this.#path = join(agentFolder(roots), "reserve");
  }

  async keep(): Promise<void> {
    // One that died half-way left a shorter one.
    if (((await statIfAny(this.#path))?.size ?? 0) >= reserveBytes) return;
    const { O_WRONLY, O_CREAT, O_NOFOLLOW } = constants;
    try {
      await ensureAgentFolder(this.#roots, agentFolder(this.#roots));
      const owner = recordOwner(this.#roots);
      const file = await open(this.#path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0o600);
      try {
        if (owner !== undefined) await file.chown(owner.uid, owner.gid);
        // Random, since a file system may keep zeros without taking space for them.
        await file.writeFile(randomBytes(reserveBytes));
        await file.sync();
      } finally {
        await file.close();
      }
    } catch (error) {
      if (!["ENOSPC", "EDQUOT", "EROFS"].some((code) => isErrno(error, code))) throw error;
      await this.release();
    }
  }

  async release(): Promise<boolean> {
    if ((await statIfAny(this.#path)) === undefined) return false;
    try {
      await rm(this.#path, { force: true });
      return true;
    } catch (error) {
      if (isErrno(error, "EROFS")) return false;
      throw error;
    }
  }
}
