import type { ActionKind } from "../../src/planner/action.ts";

/** What all seeds together went through. */
export class Coverage {
  seeds = 0;
  actions = 0;
  faults = 0;
  crashes = 0;
  /** Calls of ports that each kind of action makes. */
  readonly seen: Set<string> = new Set();
  /** Those of them before or after which a process died. */
  readonly crashed: Map<string, number> = new Map();
  /** Kinds after which, done, a process died before it did anything else. */
  readonly afterAction: Map<ActionKind, number> = new Map();

  /** Adds what others went through. */
  add(other: Coverage): void {
    this.seeds += other.seeds;
    this.actions += other.actions;
    this.faults += other.faults;
    this.crashes += other.crashes;
    for (const pair of other.seen) this.seen.add(pair);
    addCounts(this.crashed, other.crashed);
    addCounts(this.afterAction, other.afterAction);
  }

  /** Calls within actions before or after which no process ever died. */
  missing(): string[] {
    return [...this.seen].flatMap((pair) =>
      ["crash-before", "crash-after"]
        .map((when) => `${when} ${pair}`)
        .filter((point) => !this.crashed.has(point)),
    );
  }
}

function addCounts<K>(to: Map<K, number>, from: ReadonlyMap<K, number>): void {
  for (const [key, count] of from) to.set(key, (to.get(key) ?? 0) + count);
}
