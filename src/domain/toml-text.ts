import { TomlError, parse } from "smol-toml";
import type * as z from "zod";

/** Text that is no TOML, with the line and column at which that shows. */
export class TomlTextError extends Error {}

/** The value of a TOML text. @throws TomlTextError */
export function parseToml(text: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [first = ""] = error.message.split("\n");
    throw new TomlTextError(`line ${error.line}, column ${error.column}: ${first}`);
  }
}

/** Everything a schema does not allow in a file, each with its place: `pools[0].role: …`; `whole` is the file's name for itself. */
export function problemsWithPlaces(error: z.ZodError, whole: string): string[] {
  return error.issues.map(({ path, message }) => {
    const place = path.map((key) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`));
    return `${place.join("").replace(/^\./, "") || whole}: ${message}`;
  });
}
