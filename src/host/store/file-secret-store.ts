import { join } from "node:path";
import * as z from "zod";
import { OperationError } from "../../domain/errors.ts";
import type { TenantId } from "../../domain/ids.ts";
import type { SecretStore, StoredSecrets } from "../../ports/secret-store.ts";
import { readFileIfAny, writeFileAtomic } from "../files.ts";
import { type Roots, tenantFolder } from "../roots.ts";
import { recordOwner } from "../state-owner.ts";

// A file from before there were epochs has none of it.
const changedAt = z.record(z.string(), z.iso.datetime()).default({});

const storedSchema: z.ZodType<StoredSecrets> = z.strictObject({
  values: z.record(z.string(), z.string()),
  generated: z.record(z.string(), z.string()),
  values_changed_at: changedAt,
  generated_changed_at: changedAt,
  updated_at: z.iso.datetime(),
  epoch: z.number().int().nonnegative().default(1),
});

/** Keeps a tenant's secrets in its `secrets.json`, 0600: the one place on disk where they are. */
export class FileSecretStore implements SecretStore {
  readonly #roots: Roots;

  constructor(roots: Roots) {
    this.#roots = roots;
  }

  async load(tenant: TenantId): Promise<StoredSecrets | undefined> {
    const text = await readFileIfAny(this.location(tenant));
    if (text === undefined) return undefined;
    const parsed = storedSchema.safeParse(parse(text));
    // The parser's own message would quote the content, and that is secret.
    if (!parsed.success) {
      throw new OperationError(`${this.location(tenant)} cannot be read as secrets`, {
        hint: `set them anew: mvm tenant secrets set ${tenant} --from-file secrets.json`,
      });
    }
    return parsed.data;
  }

  async save(tenant: TenantId, secrets: StoredSecrets): Promise<void> {
    await writeFileAtomic(
      this.location(tenant),
      `${JSON.stringify(secrets)}\n`,
      0o600,
      recordOwner(this.#roots),
    );
  }

  location(tenant: TenantId): string {
    return join(tenantFolder(this.#roots, tenant), "secrets.json");
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
