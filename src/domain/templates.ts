import { NotFoundError } from "./errors.ts";
import { type PoolId, parsePoolId } from "./ids.ts";
import type { DesiredCounts, GatewayRoute, InstanceResources } from "./pool.ts";
import type { Role } from "./roles.ts";

export interface TemplatePool {
  readonly pool_id: PoolId;
  readonly role: Role;
  readonly profile: string;
  readonly instance_resources: InstanceResources;
  readonly desired_counts: DesiredCounts;
  readonly start_timeout_seconds: number;
  readonly gateway_routes: readonly GatewayRoute[];
}

/** What `mvm new <template>` makes. */
export interface Template {
  readonly name: string;
  readonly flake_ref: string;
  readonly pools: readonly TemplatePool[];
  /** Secrets that mvm makes for each deployment. */
  readonly generated_secrets: readonly string[];
  /** The port of the workload, for the operator who opens it. */
  readonly workload_port: number;
}

const workers = parsePoolId("workers");
const openclawPort = 18_789;

const openclaw: Template = {
  name: "openclaw",
  flake_ref: "builtin:openclaw",
  generated_secrets: ["OPENCLAW_GATEWAY_TOKEN"],
  workload_port: openclawPort,
  pools: [
    {
      pool_id: parsePoolId("gateways"),
      role: "gateway",
      profile: "minimal",
      instance_resources: { vcpus: 2, mem_mib: 1024, data_disk_mib: 0 },
      desired_counts: { running: 1, warm: 0, sleeping: 0 },
      start_timeout_seconds: 300,
      gateway_routes: [
        {
          name: "openclaw",
          listen_port: openclawPort,
          pool_id: workers,
          target_port: openclawPort,
        },
      ],
    },
    {
      pool_id: workers,
      role: "worker",
      profile: "minimal",
      instance_resources: { vcpus: 2, mem_mib: 1024, data_disk_mib: 2048 },
      desired_counts: { running: 2, warm: 1, sleeping: 0 },
      // Under software emulation, and with the other workers booting beside it, OpenClaw needs minutes.
      start_timeout_seconds: 1200,
      gateway_routes: [],
    },
  ],
};

/** @throws NotFoundError when there is no such template. */
export function findTemplate(name: string): Template {
  if (name === openclaw.name) return openclaw;
  throw new NotFoundError(`there is no template "${name}"`, {
    hint: "the templates are: openclaw",
  });
}
