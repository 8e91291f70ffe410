import { type Command, buildCommand } from "@stricli/core";
import type { TenantId } from "../../../domain/ids.ts";
import type { Quotas } from "../../../domain/quota.ts";
import type { CliContext } from "../../context.ts";
import { jsonFlag, tenantArgument, networkFlags, wholeNumber } from "../../parameters.ts";

interface Flags {
  readonly netId?: number;
  readonly subnet?: string;
  readonly maxVcpus?: number;
  readonly maxMemMib?: number;
  readonly maxRunning?: number;
  readonly maxWarm?: number;
  readonly maxPools?: number;
  readonly maxInstancesPerPool?: number;
  readonly maxDiskGib?: number;
  readonly json: boolean;
}

function quota(brief: string): {
  kind: "parsed";
  parse: (text: string) => number;
  optional: true;
  brief: string;
} {
  return { kind: "parsed", parse: wholeNumber(0, 1_000_000_000), optional: true, brief };
}

/** `mvm tenant create` */
export const tenantCreate: Command<CliContext> = buildCommand<Flags, [TenantId], CliContext>({
  docs: { brief: "Make a tenant with a network of its own" },
  parameters: {
    positional: tenantArgument,
    flags: {
      ...networkFlags,
      maxVcpus: quota("Quota: vCPUs of all running and warm instances (32)"),
      maxMemMib: quota("Quota: their memory in MiB (65536)"),
      maxRunning: quota("Quota: running instances (16)"),
      maxWarm: quota("Quota: warm instances (8)"),
      maxPools: quota("Quota: pools (10)"),
      maxInstancesPerPool: quota("Quota: instances a pool (32)"),
      maxDiskGib: quota("Quota: data disks in GiB (500)"),
      ...jsonFlag,
    },
  },
  async func({ netId, subnet, json, ...flags }, tenant) {
    const node = await this.node();
    const quotas = {
      max_vcpus: flags.maxVcpus,
      max_mem_mib: flags.maxMemMib,
      max_running: flags.maxRunning,
      max_warm: flags.maxWarm,
      max_pools: flags.maxPools,
      max_instances_per_pool: flags.maxInstancesPerPool,
      max_disk_gib: flags.maxDiskGib,
    };
    const given = Object.entries(quotas).filter(([, value]) => value !== undefined);
    const view = await node.createTenant({
      tenant,
      quotas: Object.fromEntries(given) as Partial<Quotas>,
      ...(netId === undefined ? {} : { netId }),
      ...(subnet === undefined ? {} : { subnet }),
    });
    if (json) this.out.json(view);
    else this.out.data(`${view.tenant_id}: subnet ${view.subnet}, bridge ${view.bridge}`);
  },
});
