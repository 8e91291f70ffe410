import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Roots } from "../../src/host/roots.ts";

/** Roots in a temporary folder, for adapters that only keep files. Nothing is in them. */
export class TemporaryRoots implements Roots, AsyncDisposable {
  readonly stateDir: string;
  readonly configDir: string;
  readonly runDir: string;
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
    this.stateDir = join(folder, "state");
    this.configDir = join(folder, "etc");
    this.runDir = join(folder, "run");
  }

  static async make(): Promise<TemporaryRoots> {
    return new TemporaryRoots(await mkdtemp(join(tmpdir(), "mvm-store-")));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true });
  }
}
