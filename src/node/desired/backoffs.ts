import { type Backoff, backoffEndsMs } from "../../planner/backoff.ts";

/** After so long without another try nobody wants the object any more. */
const forgottenAfterMs = 1_200_000;

/** What failed lately, by the address of the object: each waits longer before it is tried again. */
export class Backoffs {
  readonly #entries = new Map<string, Backoff>();

  get entries(): ReadonlyMap<string, Backoff> {
    return this.#entries;
  }

  failed(object: string, cause: string, nowMs: number): void {
    const failures = (this.#entries.get(object)?.failures ?? 0) + 1;
    this.#entries.set(object, { failures, failedAtMs: nowMs, cause });
  }

  succeeded(object: string): void {
    this.#entries.delete(object);
  }

  /** Forgets what was not tried again although it could have been. */
  sweep(nowMs: number): void {
    for (const [object, { failures, failedAtMs }] of this.#entries) {
      const endMs = backoffEndsMs(failedAtMs, failures) + forgottenAfterMs;
      if (endMs < nowMs) this.#entries.delete(object);
    }
  }

  /** What a new document or an operator changed may work at once. */
  clear(): void {
    this.#entries.clear();
  }
}
