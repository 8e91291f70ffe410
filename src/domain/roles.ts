import { UsageError } from "./errors.ts";

export type Role = "gateway" | "builder" | "worker" | `capability-${string}`;

const CAPABILITY = /^capability-[a-z0-9](?:[a-z0-9-]{0,40}[a-z0-9])?$/;

/** @throws UsageError when the text is no role. */
export function parseRole(text: string): Role {
  if (text === "gateway" || text === "builder" || text === "worker") return text;
  if (CAPABILITY.test(text)) return text as Role;
  throw new UsageError(`"${text}" is not a role`, {
    hint: "use gateway, worker, builder or capability-<name>",
  });
}

/** Lower is reconciled first and slept last. */
export function rolePriority(role: Role): number {
  if (role === "gateway") return 0;
  if (role === "builder") return 1;
  return role === "worker" ? 2 : 3;
}

/** Builders get neither a config nor a secrets drive. */
export function roleHasConfigAndSecrets(role: Role): boolean {
  return role !== "builder";
}
