import { z } from "zod";

/** Version of the conversation between host and guest agent. */
export const guestProtocolVersion = 1;

export type ServiceHealth = "healthy" | "starting" | "unhealthy";

export interface ServiceReport {
  readonly name: string;
  readonly health: ServiceHealth;
  /** Why it is not healthy; at most 500 characters. */
  readonly detail: string;
}

/** Answer to `Health`: the guest is healthy when every service is; a guest without services is healthy. */
export interface HealthReport {
  readonly services: readonly ServiceReport[];
  readonly uptime_seconds: number;
  readonly memory_available_mib: number;
}

/** The guest's side of `Hello`: sent once the agent is ready to serve. */
export interface HelloAnswer {
  readonly protocol: "mvm-guest";
  readonly version: number;
  /** The host's nonce, given back; what comes before it belongs to an older session. */
  readonly nonce: string;
  readonly boot_id: string;
  readonly instance_id: string;
}

export const healthReportSchema: z.ZodType<HealthReport> = z.strictObject({
  services: z
    .array(
      z.strictObject({
        name: z.string().max(64),
        health: z.enum(["healthy", "starting", "unhealthy"]),
        detail: z.string().max(500),
      }),
    )
    .max(64),
  uptime_seconds: z.number().nonnegative(),
  memory_available_mib: z.number().nonnegative(),
});

export const helloAnswerSchema: z.ZodType<HelloAnswer> = z.strictObject({
  protocol: z.literal("mvm-guest"),
  version: z.number().int(),
  nonce: z.string().max(64),
  boot_id: z.string().max(64),
  instance_id: z.string().max(64),
});
