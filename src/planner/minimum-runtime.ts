import type { InstanceState } from "../domain/instance.ts";
import type { Pool } from "../domain/pool.ts";

/** How long an instance stays as it is, and when that is over. */
export interface MinimumRuntime {
  readonly status: "running" | "warm";
  readonly seconds: number;
  /** Milliseconds since 1970. */
  readonly endMs: number;
}

/** The minimum that a pool sets for an instance's present status, or undefined when it has none. A spare that still runs has not served. */
export function minimumOf(
  pool: Pool,
  state: InstanceState,
  spare: boolean,
): MinimumRuntime | undefined {
  if (state.status !== "running" && state.status !== "warm") return undefined;
  const { min_running_seconds, min_warm_seconds } = pool.runtime_policy;
  const asked = state.status === "running" ? min_running_seconds : min_warm_seconds;
  const seconds = spare ? 0 : asked;
  return { status: state.status, seconds, endMs: Date.parse(state.since) + seconds * 1000 };
}
