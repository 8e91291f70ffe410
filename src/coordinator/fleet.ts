import { createHash, type KeyObject } from "node:crypto";
import { MvmError, NotTrustedError, OperationError } from "../domain/errors.ts";
import type { Authority } from "../ports/authority.ts";
import type { DialTarget, PeerRole, Transport } from "../ports/transport.ts";
import { signDesired } from "../protocol/signed-desired.ts";
import { NodeClient } from "./node-client.ts";

/** How many nodes are spoken to at once. */
const parallelNodes = 32;

/** How it went with one node. */
export type NodeResult<T> =
  | { readonly node: string; readonly ok: true; readonly result: T }
  | { readonly node: string; readonly ok: false; readonly error: MvmError };

export interface FleetOptions {
  readonly transport: Transport;
  /** What this side's certificate says it is. */
  readonly role: PeerRole;
  readonly nowMs: () => number;
  readonly signal: AbortSignal;
}

/** A document for nodes, and how it is signed. */
export interface Signing {
  /** The exact bytes. */
  readonly document: Uint8Array;
  /** Signs it for each node; without it it goes unsigned, which only development takes. */
  readonly key?: KeyObject | undefined;
  /** Else the next after the last one that the node took, or that one when it is of the same document. */
  readonly generation?: number | undefined;
  readonly lifeMs: number;
}

/** A document on its way to nodes. */
export interface Push extends Signing {
  /** Whether to wait until the node has converged. */
  readonly wait: boolean;
}

/** What is asked of many nodes side by side. One that fails holds up no other. */
export class Fleet {
  readonly #options: FleetOptions;

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  /** Does the work with each node, in no order. @returns a result each, in the order of the targets. */
  async each<T>(
    targets: readonly DialTarget[],
    work: (client: NodeClient, node: string) => Promise<T>,
  ): Promise<NodeResult<T>[]> {
    const results: NodeResult<T>[] = [];
    let next = 0;
    const worker = async (): Promise<void> => {
      for (;;) {
        const index = next;
        const target = targets[index];
        if (target === undefined) return;
        next += 1;
        results[index] = await this.#one(target, work);
      }
    };
    await Promise.all(Array.from({ length: Math.min(parallelNodes, targets.length) }, worker));
    return results;
  }

  /** Gives a node a document. @param onProgress hears what the node says while it works. */
  async push(
    client: NodeClient,
    push: Push,
    onProgress: (progress: unknown) => void,
  ): Promise<unknown> {
    const { signal } = this.#options;
    const { wait } = push;
    const form = await this.#formOf(client, push);
    return "signed" in form
      ? client.call("ReconcileSigned", { ...form, wait }, { signal, onProgress })
      : client.call("Reconcile", { ...form, wait }, { signal, onProgress });
  }

  /** What a node would do about a document, or about the one in force. */
  async plan(client: NodeClient, signing: Signing | undefined): Promise<unknown> {
    const form = signing === undefined ? {} : await this.#formOf(client, signing);
    return client.call("Plan", form, { signal: this.#options.signal });
  }

  /** Has a node make its next key, and gives it the certificate for it. @returns what the node installed. */
  async renew(client: NodeClient, authority: Authority, lifeMs: number): Promise<unknown> {
    const { signal, nowMs } = this.#options;
    const { request } = asObject(await client.call("CertificateRequest", {}, { signal }));
    if (typeof request !== "string") {
      throw new OperationError("the node answered with no signing request");
    }
    // The node that is there proved its id: a request for another id would make it another node.
    const { certificatePem } = await authority.issue(
      { requestPem: request, expectedId: client.peer.id, role: "node" },
      lifeMs,
      nowMs(),
    );
    const revocations = await authority.revocations();
    return client.call(
      "CertificateInstall",
      { certificate: certificatePem, revocations },
      { signal },
    );
  }

  /** A document as it goes to one node. */
  async #formOf(
    client: NodeClient,
    signing: Signing,
  ): Promise<{ readonly signed: unknown } | { readonly desired: unknown }> {
    const { key, document } = signing;
    if (key !== undefined) return { signed: await this.#sign(client, key, signing) };
    return { desired: JSON.parse(Buffer.from(document).toString("utf8")) as unknown };
  }

  async #sign(client: NodeClient, key: KeyObject, push: Signing): Promise<unknown> {
    const { signal, nowMs } = this.#options;
    const { node_id } = await client.hello(signal);
    if (node_id !== client.peer.id) {
      throw new NotTrustedError(`the node says it is ${node_id}; its certificate says otherwise`);
    }
    const generation = push.generation ?? (await this.#nextGeneration(client, push.document));
    const expires_at = new Date(nowMs() + push.lifeMs).toISOString();
    return signDesired(key, { node_id, generation, expires_at }, push.document);
  }

  async #nextGeneration(client: NodeClient, document: Uint8Array): Promise<number> {
    const { signal } = this.#options;
    const { desired } = asObject(await client.call("NodeInfo", {}, { signal }));
    const { generation, hash } = asObject(desired ?? {});
    if (typeof generation !== "number") return 1;
    const isSame = createHash("sha256").update(document).digest("hex") === hash;
    return isSame && generation > 0 ? generation : generation + 1;
  }

  async #one<T>(
    target: DialTarget,
    work: (client: NodeClient, node: string) => Promise<T>,
  ): Promise<NodeResult<T>> {
    const node = formatTarget(target);
    const { transport, role, signal } = this.#options;
    try {
      const client = new NodeClient(await transport.dial(target, signal), role);
      try {
        return { node, ok: true, result: await work(client, node) };
      } finally {
        await client.close();
      }
    } catch (error) {
      if (!(error instanceof MvmError)) throw error;
      return { node, ok: false, error };
    }
  }
}

/** A target as people write it. */
function formatTarget({ host, port }: DialTarget): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function asObject(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null) {
    throw new OperationError("the node answered with what is no object");
  }
  return value as Readonly<Record<string, unknown>>;
}
