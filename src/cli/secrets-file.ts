import { readFile } from "node:fs/promises";
import * as z from "zod";
import { UsageError, isSystemError } from "../domain/errors.ts";

const maxSecretsBytes = 256 * 1024;
const secretsSchema = z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), z.string());

/**
 * Reads secrets from a file that holds a flat JSON object of strings; `-` is standard input.
 * @throws UsageError
 */
export async function readSecretsFile(
  path: string,
  stdin: AsyncIterable<unknown>,
): Promise<Record<string, string>> {
  return parseSecrets(await readSecrets(stdin, path), path);
}

async function readSecrets(stdin: AsyncIterable<unknown>, path: string): Promise<string> {
  if (path !== "-") {
    try {
      return await readFile(path, "utf8");
    } catch (error) {
      if (!isSystemError(error)) throw error;
      throw new UsageError(`${path} cannot be read`, { cause: error });
    }
  }
  let text = "";
  for await (const chunk of stdin) {
    text += String(chunk);
    if (text.length > maxSecretsBytes) throw new UsageError("the secrets are longer than 256 KiB");
  }
  return text;
}

/** Its errors name fields and never quote the file: what is in it is secret. */
function parseSecrets(text: string, path: string): Record<string, string> {
  if (text.length > maxSecretsBytes) throw new UsageError("the secrets are longer than 256 KiB");
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
