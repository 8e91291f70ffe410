import * as z from "zod";
import { UsageError } from "../domain/errors.ts";
import { secretName } from "../domain/secret-scopes.ts";
import { readInput } from "./read-input.ts";

const maxSecretsBytes = 256 * 1024;
const secretsSchema = z.record(z.string().regex(secretName), z.string());

/**
 * Reads secrets from a file that holds a flat JSON object of strings; `-` is standard input.
 * @throws UsageError
 */
export async function readSecretsFile(
  path: string,
  stdin: AsyncIterable<unknown>,
): Promise<Record<string, string>> {
  const bytes = await readInput(stdin, path, { what: "the secrets", maxBytes: maxSecretsBytes });
  return parseSecrets(bytes.toString("utf8"), path);
}

/** Its errors name fields and never quote the file: what is in it is secret. */
function parseSecrets(text: string, path: string): Record<string, string> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) throw notSecrets(path, "it is no JSON");
    throw error;
  }
  const result = secretsSchema.safeParse(parsed);
  if (result.success) return result.data;
  const fields = result.error.issues.map((issue) => issue.path.join(".") || "the file");
  throw notSecrets(path, `not a name or not a string: ${fields.slice(0, 5).join(", ")}`);
}

function notSecrets(path: string, problem: string): UsageError {
  return new UsageError(`${path} holds no secrets: ${problem}`, {
    hint: 'write a flat JSON object of strings, such as {"ANTHROPIC_API_KEY": "..."}',
  });
}
