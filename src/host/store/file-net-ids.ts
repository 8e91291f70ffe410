// Its promises by this name: see files.ts.
import { promises } from "node:fs";
import { dirname, join } from "node:path";
import * as z from "zod/mini";
import { OperationError } from "../../domain/errors.ts";
import type { NetIds } from "../../ports/record-folders.ts";
import { readFileIfAny, removeHalfWrittenOf, writeFileAtomic } from "../files.ts";
import type { Roots } from "../roots.ts";
import { inEnglish, problemOf } from "./record-problem.ts";

const networksSchema = z.lazy(() =>
  z.strictObject({
    schema_version: z.literal(1),
    used: z.array(z.int().check(z.gte(0), z.lte(4095))),
  }),
);

/** Keeps them in `networks.json`, which is root's: no record of a tenant can bring one back. */
export class FileNetIds implements NetIds {
  readonly #path: string;

  constructor(roots: Roots) {
    this.#path = join(roots.stateDir, "networks.json");
  }

  async use(netId: number | undefined): Promise<ReadonlySet<number>> {
    const text = await readFileIfAny(this.#path);
    const used = new Set(text === undefined ? [] : this.#parse(text));
    if (netId !== undefined && !used.has(netId)) {
      used.add(netId);
      const record = { schema_version: 1, used: [...used].toSorted((a, b) => a - b) };
      await promises.mkdir(dirname(this.#path), { recursive: true, mode: 0o755 });
      // The caller holds the node lock.
      await removeHalfWrittenOf(this.#path);
      await writeFileAtomic(this.#path, `${JSON.stringify(record, undefined, 2)}\n`, 0o600);
    }
    return used;
  }

  #parse(text: string): number[] {
    try {
      return networksSchema.parse(JSON.parse(text), inEnglish).used;
    } catch (error) {
      throw new OperationError(`${this.#path} cannot be used: ${problemOf(error)}`, {
        hint: "restore it from a backup; without it a new tenant could get a subnet that was used before",
        cause: error,
      });
    }
  }
}
