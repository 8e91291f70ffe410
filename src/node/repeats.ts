const quietMs = 60_000;
const maxKinds = 20;
const maxOrigins = 1000;

interface Seen {
  writtenMs: number;
  unwritten: number;
}

/**
 * Thins what somebody else can bring about as often as they like, such as refusals: one of a kind is
 * written at once and then at most every minute, with how many there were. Else it could fill the disk.
 * Kinds may come from what a peer said, so that an origin has only so many; the rest count as one.
 */
export class Repeats {
  readonly #origins = new Map<string, Map<string, Seen>>();

  /** How many the next line stands for; 0 when there is none to write now. @param kind what makes two of them equal. */
  timesToWrite(origin: string, kind: string, nowMs: number): number {
    const kinds = this.#kindsOf(origin);
    if (!kinds.has(kind) && kinds.size >= maxKinds) forgetOld(kinds, nowMs);
    const counted = kinds.has(kind) || kinds.size < maxKinds ? kind : "";
    const seen = kinds.get(counted);
    if (seen !== undefined && isRecent(seen, nowMs)) {
      seen.unwritten += 1;
      return 0;
    }
    kinds.set(counted, { writtenMs: nowMs, unwritten: 0 });
    return 1 + (seen?.unwritten ?? 0);
  }

  #kindsOf(origin: string): Map<string, Seen> {
    const known = this.#origins.get(origin);
    if (known !== undefined) return known;
    const [oldest] = this.#origins.keys();
    if (oldest !== undefined && this.#origins.size >= maxOrigins) this.#origins.delete(oldest);
    const made = new Map<string, Seen>();
    this.#origins.set(origin, made);
    return made;
  }
}

/** A clock that was put back a day must not silence a day. */
function isRecent({ writtenMs }: Seen, nowMs: number): boolean {
  return Math.abs(nowMs - writtenMs) < quietMs;
}

function forgetOld(kinds: Map<string, Seen>, nowMs: number): void {
  for (const [kind, seen] of kinds) if (!isRecent(seen, nowMs)) kinds.delete(kind);
}
