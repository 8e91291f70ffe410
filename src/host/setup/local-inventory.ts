import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { FoundOnHost, HostInventory } from "../../ports/host-inventory.ts";
import type { Vmm } from "../../ports/vmm.ts";
import { isErrno, listFolderIfAny, lstatIfAny } from "../files.ts";
import { mountPoints } from "../mounts.ts";
import { type Roots, instanceRunRoot, keysFolder, tenantsFolder } from "../roots.ts";

/** A writer that writes now is done within it. */
const writingMs = 60_000;

/** Looks for itself, as root. */
export class LocalInventory implements HostInventory {
  readonly #roots: Roots;
  readonly #vmm: Pick<Vmm, "list">;

  constructor(roots: Roots, vmm: Pick<Vmm, "list">) {
    this.#roots = roots;
    this.#vmm = vmm;
  }

  async found(): Promise<FoundOnHost> {
    const runRoot = instanceRunRoot(this.#roots);
    const probes = await this.#vmm.list(join(this.#roots.runDir, "probe"));
    return {
      runFolders: await listFolderIfAny(runRoot),
      mounts: (await mountPoints())
        .filter((path) => path.startsWith(`${runRoot}/`))
        .map((path) => path.slice(runRoot.length + 1)),
      probes: probes.map(({ id, pid }) => ({ id, pid })),
      keyFiles: await listFolderIfAny(keysFolder(this.#roots)),
      temporaryFiles: await this.#temporaryFiles(),
    };
  }

  async #temporaryFiles(): Promise<string[]> {
    const tenants = tenantsFolder(this.#roots);
    const keys = keysFolder(this.#roots);
    const { stateDir } = this.#roots;
    const paths = [
      ...(await list(tenants, true)).map((name) => join(tenants, name)),
      ...(await list(keys)).map((name) => join(keys, name)),
      ...(await list(stateDir)).map((name) => join(stateDir, name)),
    ];
    const left: string[] = [];
    for (const path of paths) {
      if (!path.endsWith(".tmp")) continue;
      const found = await lstatIfAny(path);
      if (found !== undefined && Date.now() - found.mtimeMs >= writingMs) left.push(path);
    }
    return left;
  }
}

async function list(folder: string, recursive = false): Promise<string[]> {
  try {
    return await readdir(folder, { recursive });
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}
