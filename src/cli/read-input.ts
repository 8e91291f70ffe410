import { open } from "node:fs/promises";
import { UsageError, isSystemError } from "../domain/errors.ts";

/** A file's bytes, or standard input's for `-`; `what` names them in errors, which never quote them. @throws UsageError */
export async function readInput(
  stdin: AsyncIterable<unknown>,
  path: string,
  { what, maxBytes }: { readonly what: string; readonly maxBytes: number },
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  const source = path === "-" ? stdin : await openFile(path);
  try {
    for await (const chunk of source) {
      const bytes = Buffer.from(chunk as Uint8Array);
      size += bytes.length;
      if (size > maxBytes) throw new UsageError(`${what} may have at most ${maxBytes} bytes`);
      chunks.push(bytes);
    }
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new UsageError(`${path} cannot be read`, { cause: error });
  }
  return Buffer.concat(chunks);
}

async function openFile(path: string): Promise<AsyncIterable<unknown>> {
  try {
    const file = await open(path, "r");
    return file.createReadStream();
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new UsageError(`${path} cannot be read`, { cause: error });
  }
}
