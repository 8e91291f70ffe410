import type { AuditEntry } from "../ports/audit.ts";

/** A line of an audit log for a person: when, what, to whom, by whom, and the details as `name=value`. */
export function renderEvent({ sequence, at, by, type, object, fields }: AuditEntry): string {
  const details = Object.entries(fields).map(([name, value]) => `${name}=${shown(value)}`);
  return [`${sequence}`.padStart(5), at, type, object, ...details, `by=${shown(by)}`].join("  ");
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return value.map((item) => shown(item)).join(",");
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return /\s/.test(text) ? JSON.stringify(text) : text;
}
