import { join } from "node:path";
import * as z from "zod";
import { readFileIfAny } from "../files.ts";

export type PayloadName = "kernel" | "base" | "openclaw" | "builder";
export const payloadNames: readonly PayloadName[] = ["kernel", "base", "openclaw", "builder"];

/** `payloads/<name>/payload.json`, written last: a payload without it is not there. */
export interface PayloadRecord {
  readonly schema_version: 1;
  readonly name: PayloadName;
  /** For a person, such as `6.1.0-56-cloud-amd64` or `2026.9.6`. */
  readonly version: string;
  /** What the payload was made from besides packages: a change of it makes the payload anew. */
  readonly recipe: string;
  /** SHA-256 of the payload's own files, by their names in its folder. */
  readonly files: Readonly<Record<string, string>>;
  readonly packages: readonly {
    readonly name: string;
    readonly version: string;
    readonly sha256: string;
  }[];
}

/** `payloads/manifest.json`: every payload's record, for `doctor` and for the key of a build. */
export interface PayloadManifest {
  readonly schema_version: 1;
  readonly payloads: Readonly<Partial<Record<PayloadName, PayloadRecord>>>;
}

const digest = z.string().regex(/^[0-9a-f]{64}$/);

const recordSchema: z.ZodType<PayloadRecord> = z.strictObject({
  schema_version: z.literal(1),
  name: z.enum(["kernel", "base", "openclaw", "builder"]),
  version: z.string(),
  recipe: z.string(),
  files: z.record(z.string(), digest),
  packages: z.array(z.strictObject({ name: z.string(), version: z.string(), sha256: digest })),
});

export function payloadsFolder(stateDir: string): string {
  return join(stateDir, "payloads");
}

/** The record of a payload; undefined when it is missing, half made or cannot be read as a record. */
export async function readPayloadRecord(
  stateDir: string,
  name: PayloadName,
): Promise<PayloadRecord | undefined> {
  const text = await readFileIfAny(join(payloadsFolder(stateDir), name, "payload.json"));
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  const parsed = recordSchema.safeParse(value);
  return parsed.success && parsed.data.name === name ? parsed.data : undefined;
}
