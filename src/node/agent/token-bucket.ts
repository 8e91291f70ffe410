/** How often a peer may ask. */
export interface RateLimit {
  readonly perSecond: number;
  /** How many at once after a pause. */
  readonly burst: number;
}

interface Bucket {
  tokens: number;
  atMs: number;
}

/** One token bucket a peer. Peers that have been quiet until theirs is full again are forgotten. */
export class TokenBuckets {
  readonly #limit: RateLimit;
  readonly #buckets = new Map<string, Bucket>();

  constructor(limit: RateLimit) {
    this.#limit = limit;
  }

  /** Takes a token of a peer. @returns 0, or in how many milliseconds there is one. */
  take(peer: string, nowMs: number): number {
    const { perSecond, burst } = this.#limit;
    const bucket = this.#buckets.get(peer) ?? { tokens: burst, atMs: nowMs };
    // A clock that went back gives nothing and takes nothing.
    const passedMs = Math.max(0, nowMs - bucket.atMs);
    const tokens = Math.min(burst, bucket.tokens + (passedMs / 1000) * perSecond);
    if (this.#buckets.size > 10_000) this.#forgetFull(nowMs);
    if (tokens >= 1) {
      this.#buckets.set(peer, { tokens: tokens - 1, atMs: nowMs });
      return 0;
    }
    this.#buckets.set(peer, { tokens, atMs: nowMs });
    return Math.ceil(((1 - tokens) / perSecond) * 1000);
  }

  #forgetFull(nowMs: number): void {
    const { perSecond, burst } = this.#limit;
    for (const [peer, { tokens, atMs }] of this.#buckets) {
      if (tokens + ((nowMs - atMs) / 1000) * perSecond >= burst) this.#buckets.delete(peer);
    }
  }
}
