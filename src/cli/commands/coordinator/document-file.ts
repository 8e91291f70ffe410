import type { Readable } from "node:stream";
import { UsageError } from "../../../domain/errors.ts";
import { maxDocumentBytes } from "../../../domain/desired-state.ts";
import { readInput } from "../../read-input.ts";

/** A desired-state document's exact bytes, checked so that what is wrong with it is said here and not by each node. @throws DesiredRefusedError with all problems at once. */
export async function readDocument(stdin: Readable, path: string): Promise<Buffer> {
  const bytes = await readInput(stdin, path, {
    what: "the document",
    maxBytes: maxDocumentBytes,
  });
  const { parseDesiredState } = await import("../../../domain/desired-state-schema.ts");
  parseDesiredState(bytes);
  return bytes;
}

const units = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** Parses how long a signature may be used, such as `10m`, `1h` or `7d`, into milliseconds. @throws UsageError */
export function parseLife(text: string): number {
  const [, count, unit] = /^([1-9]\d{0,3})([mhd])$/.exec(text) ?? [];
  if (count === undefined || unit === undefined) {
    throw new UsageError(`"${text}" is no length of time`, { hint: "write it as 10m, 1h or 7d" });
  }
  return Number(count) * units[unit as keyof typeof units];
}
