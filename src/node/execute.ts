import type { Action, ActionKind } from "../planner/action.ts";
import { applyPool, applyTenant, removePool, removeTenant } from "./actions/apply-document.ts";
import { destroyInstance } from "./actions/destroy.ts";
import { confirmImage, rollbackImage } from "./actions/rollout.ts";
import { createInstance } from "./actions/create.ts";
import { resumeInstance, warmInstance } from "./actions/park.ts";
import { settleInstance } from "./actions/settle.ts";
import { startInstance } from "./actions/start.ts";
import { stopInstance } from "./actions/stop.ts";
import { buildImage } from "./actions/build.ts";
import type { NodeContext } from "./context.ts";
import { applyNetworks } from "./networks.ts";

type Handlers = {
  readonly [Kind in ActionKind]: (
    context: NodeContext,
    action: Extract<Action, { kind: Kind }>,
  ) => Promise<unknown>;
};

/** One handler for each kind of action; a missing one does not compile. */
const handlers: Handlers = {
  "apply-tenant": (context, { desired }) => applyTenant(context, desired),
  "apply-pool": (context, { pool, desired }) => applyPool(context, pool, desired),
  "remove-pool": (context, { pool }) => removePool(context, pool),
  "remove-tenant": (context, { tenant }) => removeTenant(context, tenant),
  "confirm-image": (context, { pool, revision }) => confirmImage(context, pool, revision),
  "rollback-image": (context, { pool, revision, from }) =>
    rollbackImage(context, pool, revision, from),
  "ensure-network": (context) => applyNetworks(context),
  "settle-instance": (context, { instance }) => settleInstance(context, instance),
  "build-image": (context, { pool }) => buildImage(context, pool),
  "create-instance": (context, { pool }) => createInstance(context, pool),
  "start-instance": (context, { instance, spare }) => startInstance(context, instance, spare),
  "resume-instance": (context, { instance }) => resumeInstance(context, instance),
  "warm-instance": (context, { instance }) => warmInstance(context, instance),
  "stop-instance": (context, { instance }) => stopInstance(context, instance),
  "destroy-instance": (context, { instance }) => destroyInstance(context, instance, false),
};

/** Carries out one action. Ensure-style: what is done already is not done again. */
export async function execute(context: NodeContext, action: Action): Promise<void> {
  const handler = handlers[action.kind] as (
    context: NodeContext,
    action: Action,
  ) => Promise<unknown>;
  const { aroundAction } = context;
  if (aroundAction === undefined) await handler(context, action);
  else await aroundAction(action, () => handler(context, action));
}
