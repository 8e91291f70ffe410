import { UsageError } from "./errors.ts";
import type { ManagedBy } from "./tenant.ts";

/** What tenants and pools have in common: who may change them. */
export interface Managed {
  readonly managed_by: ManagedBy;
  readonly override_until: string | null;
}

const unitMs = { s: 1000, m: 60_000, h: 3_600_000 } as const;
const longestOverrideMs = 24 * unitMs.h;

/** Whether an operator has taken an object from its document for a time that is not over. Until then no document changes it. */
export function isOverridden(object: Managed, nowMs: number): boolean {
  const { managed_by, override_until } = object;
  return managed_by === "document" && override_until !== null && Date.parse(override_until) > nowMs;
}

/** Parses how long an override lasts, such as `90s`, `10m` or `2h`, into milliseconds. @throws UsageError when it is none, or more than a day. */
export function parseOverride(text: string): number {
  const [, count, unit] = /^([1-9]\d{0,5})([smh])$/.exec(text) ?? [];
  if (count === undefined || unit === undefined) {
    throw new UsageError(`"${text}" is no length of time`, {
      hint: "write it as 90s, 10m or 2h",
    });
  }
  const ms = Number(count) * unitMs[unit as keyof typeof unitMs];
  if (ms > longestOverrideMs) {
    throw new UsageError(`an override of ${text} is longer than a day`, {
      hint: "what is to last belongs in the document",
    });
  }
  return ms;
}
