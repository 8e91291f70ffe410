import { open } from "node:fs/promises";
import { UsageError, isSystemError } from "../domain/errors.ts";
import { maxDocumentBytes } from "../domain/desired-state.ts";
import type { DesiredRequest } from "../node/desired/accept.ts";

/** A signed document is its payload in base64, and a little more. */
const maxFileBytes = Math.ceil(maxDocumentBytes / 3) * 4 + 4096;

/** Reads a desired-state document, or a signed one: what has an `envelope` is signed. @throws UsageError */
export async function readDesiredFile(path: string): Promise<DesiredRequest> {
  const bytes = await readBounded(path);
  const value = parseJson(bytes);
  const isSigned = typeof value === "object" && value !== null && "envelope" in value;
  return isSigned ? { signed: value } : { document: bytes };
}

async function readBounded(path: string): Promise<Buffer> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    if (size > maxFileBytes) throw new UsageError(`${path} has more than ${maxFileBytes} bytes`);
    return await file.readFile();
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new UsageError(`${path} cannot be read`, { cause: error });
  }
}

/** What is no JSON is told with all else that is wrong with a document. */
function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8")) as unknown;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return undefined;
  }
}
