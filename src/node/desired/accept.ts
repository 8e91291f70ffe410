import { createHash } from "node:crypto";
import { nodeLog } from "../../domain/audit.ts";
import { DesiredRefusedError } from "../../domain/desired-refusal.ts";
import { type DesiredState, localNode } from "../../domain/desired-state.ts";
import { parseDesiredState } from "../../domain/desired-state-schema.ts";
import { clashesOf } from "../../planner/document-clashes.ts";
import type { AcceptedDesired } from "../../ports/desired-store.ts";
import { type VerifiedDesired, verifyDesired } from "../../protocol/signed-desired.ts";
import { type NodeContext, timestamp } from "../context.ts";
import { note } from "../refuse.ts";
import { Repeats } from "../repeats.ts";

/** A desired-state document as it comes: signed (the parsed JSON of the signed form), or its bare bytes. */
export type DesiredRequest = { readonly signed: unknown } | { readonly document: Uint8Array };

/** What a node says of a document that it took. */
export interface AcceptedView {
  /** Of the newest signed document that was taken; 0 before the first. An unsigned one has none of its own. */
  readonly generation: number;
  /** SHA-256 of the document's bytes, in hex. */
  readonly hash: string;
  /** False when this document was in force already. */
  readonly changed: boolean;
}

/** A document that may be taken. */
export interface CheckedDesired {
  readonly document: DesiredState;
  readonly bytes: Uint8Array;
  readonly hash: string;
  /** Null for a document that is not signed. */
  readonly envelope: VerifiedDesired["envelope"] | null;
}

/**
 * Takes a document: from now on it is what this node should be, also after a restart. What it asks for
 * is brought about by reconciling. A refusal changes nothing and is written down in the node's own log.
 *
 * @param repeats of the process, so that who is refused again and again does not fill the log.
 * @throws DesiredRefusedError with its reason; a DocumentError lists everything that is wrong with the document.
 */
export async function acceptDesired(
  context: NodeContext,
  request: DesiredRequest,
  repeats: Repeats = new Repeats(),
): Promise<AcceptedView> {
  return context.locks.withNode("taking a desired-state document", async () => {
    try {
      return await accept(context, await checkDesired(context, request));
    } catch (error) {
      if (!(error instanceof DesiredRefusedError)) throw error;
      await noteRefusal(context, error, repeats);
      throw error;
    }
  });
}

async function noteRefusal(
  context: NodeContext,
  { reason, message: cause }: DesiredRefusedError,
  repeats: Repeats,
): Promise<void> {
  const kind = `${reason} ${cause.slice(0, 80)}`;
  const times = repeats.timesToWrite("documents", kind, context.clock.nowMs());
  if (times === 0) return;
  await note(context, nodeLog, { type: "DesiredRefused", object: nodeLog, reason, cause, times });
}

/** Checks a document for this node with nothing changed: who signed it, for whom, until when, what it says and whether that clashes. */
export async function checkDesired(
  context: NodeContext,
  request: DesiredRequest,
): Promise<CheckedDesired> {
  const { desired, settings, clock } = context;
  const nodeId = await desired.nodeId();
  const signed = "signed" in request;
  if (!signed && settings.production) {
    throw new DesiredRefusedError(
      "unsigned",
      "in production a node takes only a desired-state document that a coordinator signed",
      { hint: "sign it: mvm coordinator sign" },
    );
  }
  const { envelope, payload } = signed
    ? verifyDesired(request.signed, {
        trustedKeys: await desired.trustedKeys(),
        nodeId,
        nowMs: clock.nowMs(),
      })
    : { envelope: null, payload: request.document };
  const document = parseDesiredState(payload);
  if (document.node_id !== localNode && document.node_id !== nodeId) {
    throw new DesiredRefusedError(
      "wrong-node",
      `the document says node ${document.node_id}, and this is ${nodeId}`,
      { hint: "push it to that node, or write its node_id as local" },
    );
  }
  await refuseClashes(context, document);
  return { document, bytes: payload, hash: hashOf(payload), envelope };
}

async function accept(context: NodeContext, checked: CheckedDesired): Promise<AcceptedView> {
  const { bytes, hash, envelope } = checked;
  const last = await context.desired.load();
  refuseOld(last, checked);
  const signed =
    envelope === null ? (last?.signed ?? null) : { generation: envelope.generation, hash };
  const key_id = envelope?.key_id ?? null;
  const generation = signed?.generation ?? 0;
  const changed = last?.hash !== hash;
  const isSame =
    !changed && last.key_id === key_id && (last.signed?.generation ?? 0) === generation;
  if (isSame) return { generation, hash, changed };
  await context.audit.append(nodeLog, {
    type: "DesiredAccepted",
    object: nodeLog,
    generation,
    document: hash,
    key_id,
  });
  const accepted_at = timestamp(context);
  await context.desired.save({ document: bytes, hash, accepted_at, signed, key_id });
  context.onProgress(`desired state: generation ${generation}, ${hash.slice(0, 12)}, is in force`);
  return { generation, hash, changed };
}

/** Nothing moves backwards: an old document that is pushed again, by mistake or by whom recorded it, is not taken. */
function refuseOld(last: AcceptedDesired | undefined, { envelope, hash }: CheckedDesired): void {
  const newest = last?.signed ?? null;
  if (envelope === null || newest === null) return;
  if (envelope.generation < newest.generation) {
    throw new DesiredRefusedError(
      "old-generation",
      `the document is of generation ${envelope.generation}, and this node took generation ${newest.generation} already`,
      { hint: `sign it with a generation above ${newest.generation}` },
    );
  }
  if (envelope.generation === newest.generation && hash !== newest.hash) {
    throw new DesiredRefusedError(
      "generation-conflict",
      `this node took another document of generation ${newest.generation}: ${newest.hash.slice(0, 12)}, not ${hash.slice(0, 12)}`,
      { hint: `sign it with a generation above ${newest.generation}` },
    );
  }
}

async function refuseClashes(context: NodeContext, document: DesiredState): Promise<void> {
  const { tenants } = await context.store.load();
  const clashes = document.tenants.flatMap((desired) => clashesOf(desired, document, tenants));
  if (clashes.length === 0) return;
  throw new DesiredRefusedError("clash", clashes.join("; "), {
    hint: "give the document's tenant another id and network, or destroy this node's own first",
  });
}

function hashOf(document: Uint8Array): string {
  return createHash("sha256").update(document).digest("hex");
}
