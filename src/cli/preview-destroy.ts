import type { TenantId } from "../domain/ids.ts";
import type { NodeQueries } from "../node/queries.ts";
import type { CliContext } from "./context.ts";

/** What a destroy is asked to take. */
interface Doomed {
  readonly kind: "tenant" | "pool" | "instance";
  readonly tenant: TenantId;
  /** Its whole address. */
  readonly object: string;
}

/** Says what a destroy would take, a line each, and changes nothing. */
export async function previewDestroy(
  context: CliContext,
  records: NodeQueries,
  { kind, tenant, object }: Doomed,
  wipe: boolean,
): Promise<void> {
  const instances = (await records.instances(tenant)).filter(
    ({ address }) => address === object || address.startsWith(`${object}/`),
  );
  const pools = kind === "tenant" ? (await records.tenant(tenant)).pools : [];
  for (const { address, status } of instances) {
    context.out.data(`destroy instance ${address} (${status})`);
  }
  for (const pool of pools) context.out.data(`destroy pool ${tenant}/${pool}`);
  if (kind !== "instance") context.out.data(`destroy ${kind} ${object}`);
  context.out.data(wipe ? "data disks are removed too" : "data disks are kept");
}
