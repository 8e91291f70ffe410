/** Who manages a tenant or pool, and until when an operator has taken it from its document. */
export function managedBy(
  { managed_by, override_until }: { managed_by: string; override_until: string | null },
  nowMs: number = Date.now(),
): string {
  const overridden = override_until !== null && Date.parse(override_until) > nowMs;
  return overridden ? `${managed_by}, overridden until ${override_until}` : managed_by;
}
