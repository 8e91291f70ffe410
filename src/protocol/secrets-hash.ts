import { createHash } from "node:crypto";

/**
 * What tells one set of a tenant's secrets from another, 64 hex digits: the SHA-256 of `mvm-secrets/1`
 * and then of each name and value, sorted by name, each as a 4-byte big-endian length and its bytes in
 * UTF-8. Only the values that the tenant's owner set count, not those that mvm generates.
 */
export function secretsHash(values: Readonly<Record<string, string>>): string {
  const hash = createHash("sha256");
  const names = Object.keys(values).toSorted();
  for (const text of ["mvm-secrets/1", ...names.flatMap((name) => [name, values[name] ?? ""])]) {
    const bytes = Buffer.from(text, "utf8");
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    hash.update(length).update(bytes);
  }
  return hash.digest("hex");
}
