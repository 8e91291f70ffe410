import { UsageError } from "./errors.ts";

/** Reads a key of 32 bytes, as they are or in 64 hex digits. @throws UsageError that says nothing of its content. */
export function parseTenantKey(bytes: Buffer): Buffer {
  if (bytes.length === 32) return bytes;
  const text = bytes.toString("latin1").trim();
  if (/^[0-9a-fA-F]{64}$/.test(text)) return Buffer.from(text, "hex");
  throw new UsageError(`a key is 32 bytes, or 64 hex digits; this is ${bytes.length} bytes`, {
    hint: "make one with: head -c 32 /dev/urandom > tenant.key",
  });
}
