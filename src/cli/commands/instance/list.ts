import { type Command, buildCommand } from "@stricli/core";
import { type PoolId, type TenantId, parsePoolId, parseTenantId } from "../../../domain/ids.ts";
import type { CliContext } from "../../context.ts";
import { age, table } from "../../output.ts";
import { jsonFlag } from "../../parameters.ts";
import { noteCorrupt } from "../../render-corrupt.ts";

interface Flags {
  readonly tenant?: TenantId;
  readonly pool?: PoolId;
  readonly json: boolean;
}

/** `mvm instance list` */
export const instanceList: Command<CliContext> = buildCommand<Flags, [], CliContext>({
  docs: { brief: "List instances" },
  parameters: {
    flags: {
      tenant: { kind: "parsed", parse: parseTenantId, optional: true, brief: "Only this tenant's" },
      pool: { kind: "parsed", parse: parsePoolId, optional: true, brief: "Only this pool's" },
      ...jsonFlag,
    },
  },
  async func({ tenant, pool, json }) {
    const records = await this.records();
    const all = await records.instances(tenant);
    noteCorrupt(this.out, await records.corrupt(tenant));
    const instances = all.filter(
      ({ address }) => pool === undefined || address.split("/")[1] === pool,
    );
    if (json) {
      this.out.json(instances);
      return;
    }
    const rows = instances.map((instance) => [
      instance.address,
      instance.operation === null ? instance.status : `${instance.status} (${instance.operation})`,
      instance.ip,
      instance.revision?.slice(0, 12) ?? "-",
      age(instance.since, Date.now()),
    ]);
    this.out.data(table(["INSTANCE", "STATUS", "IP", "IMAGE", "SINCE"], rows));
  },
});
