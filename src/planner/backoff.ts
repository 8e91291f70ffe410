const firstWaitMs = 1000;
const longestWaitMs = 600_000;

/** An object that failed, and how often in a row. */
export interface Backoff {
  readonly failures: number;
  /** Milliseconds since 1970. */
  readonly failedAtMs: number;
  readonly cause: string;
}

/** When an object that failed may be tried again: 1 s after the first failure in a row, doubling to 10 min. */
export function backoffEndsMs(failedAtMs: number, failures: number): number {
  return failedAtMs + Math.min(longestWaitMs, firstWaitMs * 2 ** Math.min(failures - 1, 20));
}
