/** What differs between two records of one form, a line each: `max_running: 16 → 8`. Values are shown as JSON where they are no plain text. */
export function changesBetween<T extends object>(before: T, after: T): string[] {
  return Object.entries(after).flatMap(([name, value]: [string, unknown]) => {
    const old: unknown = before[name as keyof T];
    return shown(old) === shown(value) ? [] : [`${name}: ${shown(old)} → ${shown(value)}`];
  });
}

function shown(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
