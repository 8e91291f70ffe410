import { plainLine } from "../../../protocol/plain-text.ts";

/** What a node says is judged field by field: it may be of another version, or lie. */
export function field(value: unknown, ...path: readonly string[]): unknown {
  let current = value;
  for (const name of path) {
    if (typeof current !== "object" || current === null) return undefined;
    current = (current as Readonly<Record<string, unknown>>)[name];
  }
  return current;
}

/** A field as people read it. */
export function text(value: unknown, fallback = "-"): string {
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  return typeof value === "string" ? plainLine(value).slice(0, 300) : fallback;
}

/** The state of a node's reconciling in an answer to a push that was waited for. */
export function stateOf(result: unknown): string {
  return text(field(result, "reconcile", "state"), "unknown");
}

/** One line of what a node tells on its way; undefined for what says nothing to people. */
export function renderProgress(progress: unknown): string | undefined {
  if (field(progress, "accepted") !== undefined) {
    return `took generation ${text(field(progress, "accepted", "generation"))}`;
  }
  const line = field(progress, "line");
  if (line !== undefined) return text(line);
  const state = field(progress, "state");
  if (state === undefined) return undefined;
  const error = field(progress, "last_error", "cause");
  return error === undefined ? text(state) : `${text(state)}: ${text(error)}`;
}

/** One line of how a push went. */
export function renderPushed(result: unknown): string {
  const document = `generation ${text(field(result, "generation"))}, ${text(field(result, "hash")).slice(0, 12)}`;
  const changed = field(result, "changed") === false ? "was in force already" : "is in force";
  const state = field(result, "reconcile", "state");
  if (state === undefined) return `${document} ${changed}`;
  const error = field(result, "reconcile", "last_error", "cause");
  const trouble = error === undefined ? "" : `: ${text(error)}`;
  return `${document} ${changed}; ${text(state)}${state === "failing" ? trouble : ""}`;
}
