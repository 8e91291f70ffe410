import * as z from "zod/mini";
import { UsageError } from "./errors.ts";

type Words = Parameters<z.ZodMiniType["parse"]>[1];
type Fields = Readonly<Record<string, unknown>>;

/** How records of one kind are read: the form that is written now, and how each older one becomes the next. */
export interface RecordForm<T> {
  readonly version: number;
  readonly schema: z.ZodMiniType<T>;
  /** What makes a record of a version into one of the next, by the older version. `schema_version` itself is seen to. */
  readonly migrations: Readonly<Record<number, (old: Fields) => Fields>>;
}

const versioned = z.lazy(() => z.looseObject({ schema_version: z.int() }));

function isOfVersion(value: unknown, version: number): boolean {
  return (
    typeof value === "object" &&
    value !== null &&
    "schema_version" in value &&
    value.schema_version === version
  );
}

/**
 * Reads a record of this or an older form; the file it came from is written anew with its next change.
 * `words` say what is wrong with it; without them a schema of `zod/mini` has none.
 * @throws ZodError when it is not of its form; UsageError when a newer mvm wrote it.
 */
export function parseRecord<T>(form: RecordForm<T>, value: unknown, words?: Words): T {
  // As good as every record is of the form that is written now, and is looked at once.
  if (isOfVersion(value, form.version)) return form.schema.parse(value, words);
  let fields: Fields & { readonly schema_version: number } = versioned.parse(value, words);
  if (fields.schema_version > form.version) {
    throw new UsageError(
      `it is of schema version ${fields.schema_version} and this mvm knows ${form.version} at most: a newer mvm wrote it`,
    );
  }
  for (let version = fields.schema_version; version < form.version; version += 1) {
    const migrate = form.migrations[version];
    if (migrate === undefined) throw new UsageError(`it is of the unknown version ${version}`);
    fields = { ...migrate(fields), schema_version: version + 1 };
  }
  return form.schema.parse(fields, words);
}
