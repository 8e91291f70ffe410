import { UsageError } from "./errors.ts";

// Apart from the schema of a pool, so that the command line knows its bounds without loading that.

/** Of each kind of instance a pool may want. */
export const maxDesiredCount = 100;

/** A profile, which is also the name of a package of a flake. @throws UsageError */
export function parseProfile(text: string): string {
  if (/^[A-Za-z0-9_][\w-]{0,63}$/.test(text)) return text;
  throw new UsageError(`"${text}" is not a profile`, {
    hint: "use at most 64 letters, digits, - and _",
  });
}
