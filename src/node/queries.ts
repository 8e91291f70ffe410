import type { InstanceAddress, InstanceId, TenantId } from "../domain/ids.ts";
import type { CorruptFile, Store, TenantRecords } from "../ports/store.ts";
import { loadInstance, loadTenant, locateInstance, isOfTenant } from "./records.ts";
import {
  type InstanceView,
  type PoolView,
  type TenantView,
  viewInstance,
  viewInstances,
  viewPool,
  viewTenant,
} from "./views.ts";

/**
 * Everything that the records alone can answer. Apart from the operations, so that a command that only
 * shows records, and the completion of a shell, start without the engine and its adapters.
 */
export class NodeQueries {
  readonly #context: { readonly store: Store };

  constructor(context: { readonly store: Store }) {
    this.#context = context;
  }

  async tenants(): Promise<{ tenants: TenantView[]; corrupt: readonly CorruptFile[] }> {
    const { tenants, corrupt } = await this.#context.store.load();
    return { tenants: tenants.map(viewTenant), corrupt };
  }

  async tenant(id: TenantId): Promise<TenantView> {
    return viewTenant(await loadTenant(this.#context, id));
  }

  /** Pools of one tenant, or of all. */
  async pools(tenant?: TenantId): Promise<PoolView[]> {
    return (await this.#records(tenant)).flatMap(({ pools, instances }) =>
      pools.map((pool) => viewPool(pool, instances)),
    );
  }

  /** Instances of one tenant, or of all. */
  async instances(tenant?: TenantId): Promise<InstanceView[]> {
    return (await this.#records(tenant)).flatMap(viewInstances);
  }

  async instance(address: InstanceAddress): Promise<InstanceView> {
    const { records, pool, instance } = await loadInstance(this.#context, address);
    return viewInstance(records.tenant, pool.role, instance);
  }

  /** Finds an instance by its id alone. */
  async locate(id: InstanceId): Promise<InstanceAddress> {
    return locateInstance(this.#context, id);
  }

  /** State files of one tenant, or of all, that cannot be used. */
  async corrupt(tenant?: TenantId): Promise<readonly CorruptFile[]> {
    const { corrupt } = await this.#context.store.load();
    return tenant === undefined ? corrupt : corrupt.filter((file) => isOfTenant(file, tenant));
  }

  async #records(tenant: TenantId | undefined): Promise<readonly TenantRecords[]> {
    if (tenant !== undefined) return [await loadTenant(this.#context, tenant)];
    return (await this.#context.store.load()).tenants;
  }
}
