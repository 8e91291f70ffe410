import { nodeLog } from "../../domain/audit.ts";
import { ConflictError, UsageError } from "../../domain/errors.ts";
import {
  isInstanceId,
  parseInstanceAddress,
  parseInstanceId,
  parseTenantId,
} from "../../domain/ids.ts";
import type { NodeInfo } from "../../ports/host-setup.ts";
import type { AcceptedView, DesiredRequest } from "../desired/accept.ts";
import type { NodeContext } from "../context.ts";
import type { NodeOperations } from "../operations.ts";
import type { Call, NodeHandlers } from "./api-server.ts";
import type { Certificates } from "./certificates.ts";
import type { LoopStatus, ReconcileLoop } from "./reconcile-loop.ts";

const defaultEvents = 50;
/** Between two progress frames of a reconcile that is waited for. */
const tellMs = 1000;

export interface HandlerParts {
  readonly context: Pick<NodeContext, "audit" | "desired">;
  readonly node: NodeOperations;
  readonly loop: ReconcileLoop;
  readonly certificates: Certificates;
  readonly info: () => Promise<NodeInfo>;
  /** Lets new connections see what was installed. */
  readonly onIdentityChanged: () => Promise<void>;
  readonly refusalsTotal: () => number;
}

/** What the daemon answers to each operation. */
export function agentHandlers(parts: HandlerParts): NodeHandlers {
  const { context, node, loop, certificates } = parts;
  return {
    Reconcile: async ({ desired, wait }, call) =>
      take(parts, { document: bytesOf(desired) }, wait ?? false, call),
    ReconcileSigned: async ({ signed, wait }, call) => take(parts, { signed }, wait ?? false, call),
    Plan: async ({ desired, signed }) => {
      if (desired !== undefined && signed !== undefined) {
        throw new UsageError("a plan is of one document");
      }
      if (signed !== undefined) return node.planDesired({ signed }, { prune: false });
      const request = desired === undefined ? undefined : { document: bytesOf(desired) };
      return node.planDesired(request, { prune: false });
    },
    NodeInfo: async () => {
      const [info, accepted] = await Promise.all([parts.info(), context.desired.load()]);
      const desired =
        accepted === undefined
          ? null
          : {
              generation: accepted.signed?.generation ?? 0,
              hash: accepted.hash,
              accepted_at: accepted.accepted_at,
              key_id: accepted.key_id,
            };
      return { ...info, desired };
    },
    NodeStats: async () => ({
      ...(await node.nodeStats()),
      reconcile: loop.status(),
      refusals_total: parts.refusalsTotal(),
      audit_head: (await context.audit.head(nodeLog)) ?? null,
    }),
    TenantList: async () => node.tenants(),
    InstanceList: async ({ tenant_id }) => ({
      instances: await node.instances(
        tenant_id === undefined ? undefined : parseTenantId(tenant_id),
      ),
    }),
    WakeInstance: async ({ instance }) => {
      const address = isInstanceId(instance)
        ? await node.locate(parseInstanceId(instance))
        : parseInstanceAddress(instance);
      await node.wakeInstance(address);
      return node.instance(address);
    },
    Events: async ({ tenant_id, last }) => ({
      events: await node.events(
        tenant_id === undefined ? nodeLog : parseTenantId(tenant_id),
        last ?? defaultEvents,
      ),
    }),
    SecretsSet: async ({ tenant_id, secrets }) => {
      await node.setSecrets(parseTenantId(tenant_id), secrets);
      return { set: Object.keys(secrets).length };
    },
    CertificateRequest: async (_, call) => ({ request: await certificates.request(whoIs(call)) }),
    CertificateInstall: async (given, call) => {
      const installed = await certificates.install(given, whoIs(call));
      await parts.onIdentityChanged();
      return installed;
    },
  };
}

/** Takes a document and sets the loop on it; when it is waited for, tells how it goes until nothing is left to do. */
async function take(
  parts: HandlerParts,
  request: DesiredRequest,
  wait: boolean,
  call: Call,
): Promise<unknown> {
  const { node, loop } = parts;
  const accepted = await node.acceptDesired(request);
  loop.wake();
  if (!wait) return accepted;
  await call.progress({ accepted });
  return { ...accepted, reconcile: await untilDone(loop, accepted, call) };
}

/** @throws ConflictError when another document is taken meanwhile. */
async function untilDone(
  loop: ReconcileLoop,
  accepted: AcceptedView,
  call: Call,
): Promise<LoopStatus> {
  const done = Promise.withResolvers<LoopStatus>();
  done.promise.catch(() => undefined);
  let toldMs = 0;
  let toldState = "";
  const look = (status: LoopStatus): void => {
    // A pass that began before the document was taken says nothing of it.
    if (status.hash !== accepted.hash) return;
    const nowMs = performance.now();
    if (status.state !== toldState || nowMs - toldMs > tellMs) {
      toldState = status.state;
      toldMs = nowMs;
      const { state, busy, held, last_error } = status;
      call.progress({ state, busy, held: held.length, last_error }).catch((error: unknown) => {
        done.reject(error);
      });
    }
    if (["converged", "held", "failing", "stopped"].includes(status.state)) done.resolve(status);
  };
  let seen = false;
  const unsubscribe = loop.subscribe((status) => {
    if (status.hash === accepted.hash) seen = true;
    else if (seen) {
      done.reject(
        new ConflictError("another document was taken before this one was brought about"),
      );
    }
    look(status);
  });
  const onAbort = (): void => done.reject(new ConflictError("nobody waits any more"));
  call.signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await done.promise;
  } finally {
    unsubscribe();
    call.signal.removeEventListener("abort", onAbort);
  }
}

function bytesOf(document: unknown): Uint8Array {
  if (document === undefined) throw new UsageError("there is no document");
  try {
    return Buffer.from(JSON.stringify(document));
  } catch (error) {
    // Reading JSON takes any depth, and writing it does not.
    if (!(error instanceof RangeError)) throw error;
    throw new UsageError("the document is nested too deeply", { cause: error });
  }
}

function whoIs({ peer }: Call): string {
  return `${peer.role} ${peer.id}`;
}
