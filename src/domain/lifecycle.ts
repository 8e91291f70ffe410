import { ConflictError } from "./errors.ts";

export const instanceStatuses = [
  "created",
  "ready",
  "running",
  "warm",
  "sleeping",
  "stopped",
  "failed",
  "destroyed",
] as const;

export type InstanceStatus = (typeof instanceStatuses)[number];

/** Every transition there is. The CLI, the agent and the sleep policy all go through this table. */
const allowed: Readonly<Record<InstanceStatus, readonly InstanceStatus[]>> = {
  created: ["ready", "destroyed"],
  ready: ["running", "destroyed"],
  running: ["warm", "sleeping", "stopped", "failed", "destroyed"],
  warm: ["running", "sleeping", "stopped", "failed", "destroyed"],
  sleeping: ["running", "stopped", "destroyed"],
  stopped: ["running", "destroyed"],
  failed: ["running", "stopped", "destroyed"],
  destroyed: [],
};

export function canTransition(from: InstanceStatus, to: InstanceStatus): boolean {
  return allowed[from].includes(to);
}

/** @throws ConflictError naming both states and what is allowed, when the transition is not in the table. */
export function assertTransition(instance: string, from: InstanceStatus, to: InstanceStatus): void {
  if (canTransition(from, to)) return;
  const next = allowed[from].join(", ");
  throw new ConflictError(`${instance} is ${from} and cannot become ${to}`, {
    hint: next === "" ? "nothing follows destroyed" : `from ${from} it can become: ${next}`,
  });
}
