import { ConflictError, OperationError, describeError } from "../../domain/errors.ts";
import { type InstanceAddress, formatInstance } from "../../domain/ids.ts";
import { type Instance, addressOf, resourcesOf, statusOf, vmmOf } from "../../domain/instance.ts";
import { assertTransition } from "../../domain/lifecycle.ts";
import type { Machine } from "../../domain/machine.ts";
import type { Pool } from "../../domain/pool.ts";
import { roleHasConfigAndSecrets } from "../../domain/roles.ts";
import { secretsFiles } from "../../domain/secret-scopes.ts";
import type { Tenant } from "../../domain/tenant.ts";
import type { StoredSecrets } from "../../ports/secret-store.ts";
import type { VmmProcess, VmmSpec } from "../../ports/vmm.ts";
import { type NodeContext, timestamp } from "../context.ts";
import { guestConfigOf } from "../guest-config.ts";
import { machineSpec } from "../machine-spec.ts";
import { applyNetworks, requireIsolation } from "../networks.ts";
import { requirePromises } from "../production.ts";
import { type ManualOverride, begin, loadInstance } from "../records.ts";
import { transition } from "../transition.ts";
import { effectiveSecrets } from "../secrets.ts";
import { livingVmms } from "./end-vmm.ts";
import { failInstance } from "./fail.ts";

/**
 * Boots an instance afresh and waits until its guest agent answers. Each step is written down before
 * it is done; one that finds the work done already goes on from there.
 *
 * @throws OperationError when VMM or guest do not come up; the instance is then failed, with the cause.
 */
export async function startInstance(
  context: NodeContext,
  address: InstanceAddress,
  spare: boolean,
  override?: ManualOverride,
): Promise<void> {
  const { records, pool, instance } = await loadInstance(context, address);
  const [revision] = pool.revisions;
  if (revision === undefined) {
    throw new ConflictError(`pool ${pool.tenant_id}/${pool.pool_id} has no image yet`, {
      hint: `build it: mvm pool build ${pool.tenant_id}/${pool.pool_id}`,
    });
  }
  let current = instance;
  if (statusOf(current) === "created") {
    current = await transition(context, current, { ...current, state: { status: "ready" } });
  }
  assertTransition(formatInstance(address), statusOf(current), "running");
  await requirePromises(context, address.tenant, {
    object: formatInstance(address),
    command: "start",
  });
  if (vmmOf(current) !== undefined || (await livingVmms(context, address)).length > 0) {
    throw new ConflictError(
      `${formatInstance(address)} has a VMM already; no second one is started`,
    );
  }
  context.onProgress(`${formatInstance(address)}: starting`);
  // The data disk is what it was made with; the rest is what the pool gives now.
  const { data_disk_mib } = resourcesOf(current, pool);
  const resources = { ...pool.instance_resources, data_disk_mib };
  current = await begin(
    context,
    { ...current, spare, resources, booted_revision: revision },
    "start",
    "network",
    override,
  );
  try {
    await applyNetworks(context);
    await requireIsolation(context);
    const secrets = await context.secrets.load(address.tenant);
    current = { ...current, secrets_epoch: secrets?.epoch ?? 0 };
    current = await begin(context, current, "start", "drives");
    const spec = await prepareSpec(context, records.tenant, pool, current, revision, secrets);
    current = await begin(context, current, "start", "vmm");
    const process = await context.vmm.start(spec, context.signal);
    await recordRunning(context, current, process, revision);
  } catch (error) {
    // Interrupted: what was begun is on disk and is settled by whoever comes next.
    if (context.signal.aborted) throw error;
    await failInstance(context, address, describeError(error));
    throw error;
  }
  await finishStart(context, address);
}

/** Waits for the guest agent of a VMM that was started, and ends the operation. */
export async function finishStart(context: NodeContext, address: InstanceAddress): Promise<void> {
  const process = await vmmProcessOf(context, address);
  try {
    await untilAgentAnswers(context, process);
  } catch (error) {
    if (context.signal.aborted) throw error;
    const failure = new OperationError(
      `${formatInstance(address)} booted no guest agent: ${describeError(error)}`,
      { cause: error, hint: `see: mvm instance logs ${formatInstance(address)} --console` },
    );
    await failInstance(context, address, failure.message);
    throw failure;
  }
  const { instance } = await loadInstance(context, address);
  await context.store.saveInstance({ ...instance, operation: null });
  context.onProgress(`${formatInstance(address)}: its guest agent answers`);
}

/** Records a VMM as the instance's own. */
export async function recordRunning(
  context: NodeContext,
  instance: Instance,
  process: VmmProcess,
  revision: string,
): Promise<void> {
  const now = timestamp(context);
  const recorded: Instance = {
    ...instance,
    state: {
      status: "running",
      since: now,
      vmm: {
        pid: process.pid,
        start_ticks: process.startTicks,
        started_at: now,
        revision,
      },
    },
    operation: {
      kind: "start",
      started_at: instance.operation?.started_at ?? now,
      step: "agent",
    },
  };
  if (statusOf(instance) === "running") await context.store.saveInstance(recorded);
  else await transition(context, instance, recorded);
}

/** The recorded VMM of an instance. @throws ConflictError when its status has none. */
export async function vmmProcessOf(
  context: NodeContext,
  address: InstanceAddress,
): Promise<VmmProcess> {
  const { instance } = await loadInstance(context, address);
  const { state } = instance;
  if (state.status !== "running" && state.status !== "warm") {
    throw new ConflictError(`${formatInstance(address)} is ${state.status} and has no VMM`);
  }
  return {
    id: instance.instance_id,
    runDir: context.drives.folders(address).runDir,
    pid: state.vmm.pid,
    startTicks: state.vmm.start_ticks,
  };
}

async function untilAgentAnswers(context: NodeContext, process: VmmProcess): Promise<void> {
  const { bootTimeoutMs, instanceRunRoot } = context.settings;
  const ended = new AbortController();
  const watch = async (): Promise<never> => {
    for (;;) {
      await context.clock.sleep(500, ended.signal);
      const living = await context.vmm.list(instanceRunRoot);
      if (!living.some(({ pid }) => pid === process.pid)) {
        throw new OperationError("the guest powered off while it booted");
      }
    }
  };
  const open = async (): Promise<void> => {
    const signal = AbortSignal.any([context.signal, ended.signal]);
    const session = await context.guestLink.open(process, bootTimeoutMs, signal);
    session.close();
  };
  try {
    await Promise.race([open(), watch()]);
  } finally {
    ended.abort();
  }
}

async function prepareSpec(
  context: NodeContext,
  tenant: Tenant,
  pool: Pool,
  instance: Instance,
  revision: string,
  secrets: StoredSecrets | undefined,
): Promise<VmmSpec> {
  const address = addressOf(instance);
  const resources = resourcesOf(instance, pool);
  const image = await context.images.files(revision);
  const drives = await context.drives.prepare({
    instance: address,
    dataDiskMib: resources.data_disk_mib,
    config: guestConfigOf(tenant, pool, instance),
    secrets: secretsFiles(pool.secret_scopes, effectiveSecrets(secrets)),
  });
  const machine: Machine = {
    instance: address,
    netId: tenant.net_id,
    offset: instance.net_offset,
    vcpus: resources.vcpus,
    memMib: resources.mem_mib,
    revision,
    hasConfig: roleHasConfigAndSecrets(pool.role),
    hasData: drives.data !== undefined,
  };
  const { vmUidBase } = context.settings;
  return machineSpec(machine, {
    vmUidBase,
    folders: context.drives.folders(address),
    image,
    drives,
  });
}
