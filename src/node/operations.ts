import type { AuditLogName } from "../domain/audit.ts";
import type { InstanceAddress, PoolAddress, TenantAddress, TenantId } from "../domain/ids.ts";
import type { DesiredCounts } from "../domain/pool.ts";
import type { Revision } from "../domain/revision.ts";
import { type Held, type Plan, objectOf } from "../planner/action.ts";
import type { AuditEntry, AuditVerdict } from "../ports/audit.ts";
import type { GuestExecRequest } from "../ports/guest-link.ts";
import type { NetworkDifference, ProbeReport } from "../ports/network.ts";
import type { BuildOptions } from "./actions/build.ts";
import type { TenantKeyStatus } from "../ports/tenant-keys.ts";
import type { NodeContext } from "./context.ts";
import { type Dashboard, dashboard } from "./dashboard.ts";
import { type AcceptedView, type DesiredRequest, acceptDesired } from "./desired/accept.ts";
import {
  type ReconcileDesiredOptions,
  planDesired,
  reconcileDesired,
} from "./desired/reconcile-desired.ts";
import { type DeployRequest, deployTemplate } from "./deploy.ts";
import { type ExplainView, explainObject } from "./explain.ts";
import { followEvents, lastEvents, verifyEvents } from "./events.ts";
import { withReserve } from "./full-disk.ts";
import { type LogRequest, followLogs } from "./follow-logs.ts";
import {
  consoleLogs,
  execInGuest,
  guestLogs,
  operatorDestroy,
  operatorStart,
  operatorStop,
  operatorWake,
  operatorWarm,
} from "./instances.ts";
import { type ManifestRequest, type ManifestResult, applyManifest } from "./manifest.ts";
import { applyNetworks, probeNetworks, verifyNetworks } from "./networks.ts";
import { buildPool, planRollback, rollbackPool } from "./pool-images.ts";
import { type PoolRequest, createPool, destroyPool, planScale, scalePool } from "./pools.ts";
import { NodeQueries } from "./queries.ts";
import type { ReconcileResult } from "./reconcile.ts";
import { findPool, loadTenant } from "./records.ts";
import { Repeats } from "./repeats.ts";
import { type InstanceStats, type NodeStats, instanceStats, nodeStats } from "./stats.ts";
import { type DestroyOptions, type TenantRequest, createTenant, destroyTenant } from "./tenants.ts";
import { type SecretsView, listSecrets, rotateSecrets, setSecrets } from "./secrets.ts";
import { generateTenantKey, importTenantKey, tenantKeyStatus } from "./tenant-keys.ts";
import {
  type PoolUpdate,
  type TenantUpdate,
  type UpdateOptions,
  updatePool,
  updateTenant,
} from "./update.ts";
import { type PoolInfo, type TenantView, viewPool, viewRevisions } from "./views.ts";

/** A plan as a command shows it. */
export interface PlanView {
  readonly actions: readonly { readonly kind: string; readonly object: string }[];
  readonly held: readonly Held[];
}

function viewPlan({ actions, held }: Plan): PlanView {
  return {
    actions: actions.map((action) => ({ kind: action.kind, object: objectOf(action) })),
    held,
  };
}

/**
 * Everything a command can ask of a node: the one interface between the command line and the engine.
 * Errors are those of the engine's modules, all of them MvmError.
 */
export class NodeOperations extends NodeQueries {
  readonly #context: NodeContext;
  readonly #refusedDocuments = new Repeats();

  constructor(context: NodeContext) {
    super(context);
    this.#context = context;
  }

  async createTenant(request: TenantRequest): Promise<TenantView> {
    await createTenant(this.#context, request);
    return this.tenant(request.tenant);
  }

  async destroyTenant(id: TenantId, options: DestroyOptions): Promise<void> {
    await withReserve(this.#context, () => destroyTenant(this.#context, id, options));
  }

  async setSecrets(
    id: TenantId,
    values: Readonly<Record<string, string>>,
    overrideMs?: number,
  ): Promise<void> {
    await setSecrets(this.#context, id, values, overrideMs);
  }

  async secrets(id: TenantId): Promise<SecretsView> {
    return listSecrets(this.#context, id);
  }

  async rotateSecrets(id: TenantId, overrideMs?: number): Promise<SecretsView> {
    return rotateSecrets(this.#context, id, overrideMs);
  }

  async tenantKey(id: TenantId): Promise<TenantKeyStatus> {
    return tenantKeyStatus(this.#context, id);
  }

  async generateTenantKey(id: TenantId, force: boolean): Promise<TenantKeyStatus> {
    return generateTenantKey(this.#context, id, force);
  }

  async importTenantKey(id: TenantId, key: Uint8Array, force: boolean): Promise<TenantKeyStatus> {
    return importTenantKey(this.#context, id, key, force);
  }

  async createPool(request: PoolRequest): Promise<PoolInfo> {
    await createPool(this.#context, request);
    return this.pool(request.address);
  }

  async pool(address: PoolAddress): Promise<PoolInfo> {
    const { instances, ...records } = await loadTenant(this.#context, address.tenant);
    const pool = findPool({ ...records, instances }, address);
    const described = new Map<string, Revision>();
    for (const hash of pool.revisions) {
      const revision = await this.#context.images.describe(hash);
      if (revision !== undefined) described.set(hash, revision);
    }
    return { ...viewPool(pool, instances), images: viewRevisions(pool, instances, described) };
  }

  async scalePool(
    address: PoolAddress,
    counts: Partial<DesiredCounts>,
    overrideMs?: number,
  ): Promise<ReconcileResult> {
    return scalePool(this.#context, address, counts, overrideMs);
  }

  async planScale(address: PoolAddress, counts: Partial<DesiredCounts>): Promise<PlanView> {
    return viewPlan(await planScale(this.#context, address, counts));
  }

  async buildPool(
    address: PoolAddress,
    options: BuildOptions = {},
    overrideMs?: number,
  ): Promise<Revision> {
    return buildPool(this.#context, address, options, overrideMs);
  }

  /** Makes an earlier image current. Answers its whole hash. */
  async rollbackPool(address: PoolAddress, revision: string, overrideMs?: number): Promise<string> {
    return rollbackPool(this.#context, address, revision, overrideMs);
  }

  /** The image that `rollbackPool` would make current, with nothing changed. */
  async planRollback(address: PoolAddress, revision: string): Promise<string> {
    return planRollback(this.#context, address, revision);
  }

  async destroyPool(address: PoolAddress, options: DestroyOptions): Promise<void> {
    await withReserve(this.#context, () => destroyPool(this.#context, address, options));
  }

  async updateTenant(
    id: TenantId,
    update: TenantUpdate,
    options: UpdateOptions,
  ): Promise<string[]> {
    return updateTenant(this.#context, id, update, options);
  }

  async updatePool(
    address: PoolAddress,
    update: PoolUpdate,
    options: UpdateOptions,
  ): Promise<string[]> {
    return updatePool(this.#context, address, update, options);
  }

  async startInstance(address: InstanceAddress): Promise<void> {
    await operatorStart(this.#context, address);
  }

  async stopInstance(address: InstanceAddress): Promise<void> {
    await withReserve(this.#context, () => operatorStop(this.#context, address));
  }

  async warmInstance(address: InstanceAddress): Promise<void> {
    await operatorWarm(this.#context, address);
  }

  async wakeInstance(address: InstanceAddress): Promise<void> {
    await operatorWake(this.#context, address);
  }

  async destroyInstance(address: InstanceAddress, wipe: boolean): Promise<void> {
    await withReserve(this.#context, () => operatorDestroy(this.#context, address, wipe));
  }

  async exec(address: InstanceAddress, request: GuestExecRequest): Promise<number> {
    return execInGuest(this.#context, address, request);
  }

  async logs(
    address: InstanceAddress,
    service: string | undefined,
    lines: number,
  ): Promise<string[]> {
    return guestLogs(this.#context, address, service, lines);
  }

  async consoleLogs(address: InstanceAddress, lines: number): Promise<string[]> {
    return consoleLogs(this.#context, address, lines);
  }

  /** Hands over the last lines of a log and then each that comes, until the instance ends or the operator leaves. */
  async followLogs(
    address: InstanceAddress,
    request: LogRequest,
    onLine: (line: string) => void,
  ): Promise<void> {
    await followLogs(this.#context, address, request, onLine);
  }

  async deploy(request: DeployRequest): Promise<ManifestResult> {
    return deployTemplate(this.#context, request);
  }

  /** Makes a deployment what a manifest says. */
  async applyManifest(request: ManifestRequest): Promise<ManifestResult> {
    return applyManifest(this.#context, request);
  }

  /** Takes a desired-state document: it is in force from then on. What it asks for is brought about by reconciling. @throws DesiredRefusedError */
  async acceptDesired(request: DesiredRequest): Promise<AcceptedView> {
    return acceptDesired(this.#context, request, this.#refusedDocuments);
  }

  /** What would be done next for a document, or without one for the document in force; nothing is changed. */
  async planDesired(
    request: DesiredRequest | undefined,
    options: ReconcileDesiredOptions,
  ): Promise<PlanView> {
    return viewPlan(await planDesired(this.#context, request, options));
  }

  /** Takes a document and brings the node to it. */
  async reconcileDesired(
    request: DesiredRequest,
    options: ReconcileDesiredOptions,
  ): Promise<ReconcileResult> {
    return reconcileDesired(this.#context, request, options);
  }

  async dashboard(tenant: TenantId): Promise<Dashboard> {
    return dashboard(this.#context, tenant);
  }

  /** Where the host's network is not what the records say; nothing is changed. */
  async verifyNetwork(): Promise<NetworkDifference[]> {
    return verifyNetworks(this.#context);
  }

  /** What stand-in guests reach under the rules of this host; nothing is changed. */
  async probeNetwork(): Promise<ProbeReport> {
    return probeNetworks(this.#context);
  }

  /** Makes the host's network what the records of all tenants say. */
  async repairNetwork(): Promise<void> {
    await applyNetworks(this.#context);
  }

  /** Why an object is as it is. */
  async explain(address: TenantAddress | PoolAddress | InstanceAddress): Promise<ExplainView> {
    return explainObject(this.#context, address);
  }

  async instanceStats(address: InstanceAddress): Promise<InstanceStats> {
    return instanceStats(this.#context, address);
  }

  async nodeStats(): Promise<NodeStats> {
    return nodeStats(this.#context);
  }

  async events(tenant: AuditLogName, count: number): Promise<AuditEntry[]> {
    return lastEvents(this.#context, tenant, count);
  }

  async verifyEvents(tenant: AuditLogName): Promise<AuditVerdict> {
    return verifyEvents(this.#context, tenant);
  }

  /** Hands over each audit line after number `after`, until the operator leaves. */
  async followEvents(
    tenant: AuditLogName,
    after: number,
    onEntry: (entry: AuditEntry) => void,
  ): Promise<void> {
    await followEvents(this.#context, tenant, after, onEntry);
  }
}
