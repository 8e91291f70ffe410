import type { AuditEvent } from "../domain/audit.ts";
import type { TenantId } from "../domain/ids.ts";
import type { Held } from "../planner/action.ts";
import type { NodeContext } from "./context.ts";
import { note } from "./refuse.ts";

/** Writes down what a minimum defers and what a quota refuses, once a run for each. */
export class HeldRecorder {
  readonly #context: NodeContext;
  readonly #tenant: TenantId;
  readonly #seen = new Set<string>();

  constructor(context: NodeContext, tenant: TenantId) {
    this.#context = context;
    this.#tenant = tenant;
  }

  /** Whether a hold is one that is written down. */
  static isRecorded(held: Held): boolean {
    return eventOf(held).length > 0;
  }

  /** Whether there is something to write down; what is held no more is forgotten, and is news when it comes again. */
  hasNews(held: readonly Held[]): boolean {
    const keys = new Set(held.flatMap((one) => eventOf(one)).map((event) => keyOf(event)));
    for (const key of this.#seen) if (!keys.has(key)) this.#seen.delete(key);
    return [...keys].some((key) => !this.#seen.has(key));
  }

  async record(held: readonly Held[]): Promise<void> {
    for (const event of held.flatMap((one) => eventOf(one))) {
      const key = keyOf(event);
      if (this.#seen.has(key)) continue;
      this.#seen.add(key);
      await note(this.#context, this.#tenant, event);
    }
  }
}

function keyOf(event: AuditEvent): string {
  return `${event.type} ${event.object} ${"quota" in event ? event.quota : ""}`;
}

function eventOf({ object, detail, to, untilMs, quota }: Held): AuditEvent[] {
  if (quota !== undefined) {
    return [{ type: "QuotaRefused", object, command: "reconcile", ...quota }];
  }
  if (to === undefined || untilMs === undefined) return [];
  const until = new Date(untilMs).toISOString();
  return [{ type: "TransitionDeferred", object, to, until, detail }];
}
