import { guestServicesFolder } from "../domain/guest-service.ts";

/** Where the agent finds and keeps things; tests put folders of their own in their place. */
export interface GuestPaths {
  readonly services: string;
  readonly logs: string;
  /** The agent's own notes, for root alone. */
  readonly agentRun: string;
  readonly passwd: string;
  readonly group: string;
  /** A folder for each integration, on the data drive. */
  readonly integrations: string;
  readonly config: string;
}

export const guestPaths: GuestPaths = {
  services: guestServicesFolder,
  logs: "/var/log/mvm",
  agentRun: "/run/mvm-agent",
  passwd: "/etc/passwd",
  group: "/etc/group",
  integrations: "/data/integrations",
  config: "/etc/mvm-config/config.json",
};
