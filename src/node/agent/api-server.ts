import { MvmError, NotTrustedError, UsageError } from "../../domain/errors.ts";
import type {
  ConnectionService,
  FrameChannel,
  Peer,
  ServedConnection,
} from "../../ports/transport.ts";
import { type WireError, wireError } from "../../protocol/node-answers.ts";
import {
  type NodeOperation,
  type NodeParameters,
  type NodeRequest,
  headOf,
  isNodeOperation,
  nodeOperations,
  nodeProtocol,
  nodeProtocolVersion,
  parseHello,
  parseNodeRequest,
} from "../../protocol/node-requests.ts";
import type { Refusals } from "./refusals.ts";
import { type RateLimit, TokenBuckets } from "./token-bucket.ts";

/** After so many requests over its rate without a pause a peer is sent away. */
const maxOverRate = 200;

/** One request under way. */
export interface Call {
  readonly peer: Peer;
  /** Aborted when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
  /** Tells how far it is. What cannot be told any more is left out. */
  progress(value: unknown): Promise<void>;
}

/** What answers each operation. A missing one does not compile. */
export type NodeHandlers = {
  readonly [Op in NodeOperation]: (parameters: NodeParameters[Op], call: Call) => Promise<unknown>;
};

export interface ApiServerOptions {
  readonly handlers: NodeHandlers;
  readonly nodeId: string;
  readonly version: string;
  readonly rateLimit: RateLimit;
  readonly refusals: Refusals;
  readonly nowMs: () => number;
  /** How an operation went, for metrics. */
  readonly onAnswered: (op: string, outcome: "ok" | WireError["code"], ms: number) => void;
  /** Something failed that is no MvmError: a defect, said on the daemon's own log. */
  readonly onDefect: (error: unknown) => void;
}

/** Answers verified peers: greets, looks who may ask what and how often, and hands on to the node. */
export class ApiServer implements ConnectionService {
  readonly #options: ApiServerOptions;
  readonly #buckets: TokenBuckets;
  readonly #greeted = new WeakSet<ServedConnection["peer"]>();
  readonly #overRate = new WeakMap<ServedConnection["peer"], number>();
  readonly #running = new Set<Promise<void>>();

  constructor(options: ApiServerOptions) {
    this.#options = options;
    this.#buckets = new TokenBuckets(options.rateLimit);
  }

  serve(connection: ServedConnection, channel: FrameChannel): void {
    const running = this.#serve(connection, channel).catch((error: unknown) => {
      channel.abort();
      // A peer that broke off, sent nonsense or was slow: it is told where it can be, and that is all.
      if (error instanceof MvmError) return;
      this.#options.onDefect(error);
    });
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  refused(address: string, cause: string): void {
    this.#refuse({ peer: "unknown", address, command: "connect", cause });
  }

  /** Answers when no request is under way any more. */
  async idle(): Promise<void> {
    await Promise.all(this.#running);
  }

  async #serve(connection: ServedConnection, channel: FrameChannel): Promise<void> {
    const { peer } = connection;
    const waitMs = this.#overRateMs(connection);
    if (waitMs > 0) {
      // Answered unread: reading 16 MiB only to say no would be work for the asking.
      await channel.send({ id: 0, error: rateLimited(waitMs) });
      await channel.end();
      return;
    }
    let value = await this.#receive(peer, channel);
    if (headOf(value)?.op === "Hello") {
      if (!(await this.#greet(connection, channel, value))) return;
      value = await this.#receive(peer, channel);
    }
    if (value !== undefined) await this.#answer(peer, channel, value);
    await channel.end();
  }

  /** @returns undefined when there is no more, or nothing that could be read; that was told then. */
  async #receive(peer: Peer, channel: FrameChannel): Promise<unknown> {
    try {
      return await channel.receive();
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      this.#refuse({ ...whoIs(peer), command: "frame", cause: error.message });
      await channel.send({ id: 0, error: wireError(error) });
      return undefined;
    }
  }

  /** @returns whether the connection may go on. */
  async #greet(
    { peer }: ServedConnection,
    channel: FrameChannel,
    value: unknown,
  ): Promise<boolean> {
    const { nodeId, version } = this.#options;
    const id = headOf(value)?.id ?? 0;
    try {
      const hello = parseHello(value);
      if (hello.protocol !== nodeProtocol || hello.version !== nodeProtocolVersion) {
        throw new UsageError(
          `this node speaks ${nodeProtocol} version ${nodeProtocolVersion}, not ${hello.protocol} version ${hello.version}`,
          { hint: "use the same version of mvm on both sides" },
        );
      }
      if (hello.role !== peer.role) {
        throw new NotTrustedError(`this is no ${hello.role}: its certificate says ${peer.role}`);
      }
    } catch (error) {
      if (!(error instanceof MvmError)) throw error;
      this.#refuse({ ...whoIs(peer), command: "Hello", cause: error.message });
      await channel.send({ id, error: wireError(error) });
      await channel.end();
      return false;
    }
    this.#greeted.add(peer);
    await channel.send({
      id,
      ok: true,
      result: {
        protocol: nodeProtocol,
        version: nodeProtocolVersion,
        role: "node",
        node_id: nodeId,
        mvm: version,
      },
    });
    return true;
  }

  async #answer(peer: Peer, channel: FrameChannel, value: unknown): Promise<void> {
    const startedMs = this.#options.nowMs();
    const head = headOf(value);
    const op = head !== undefined && isNodeOperation(head.op) ? head.op : "unknown";
    const id = head?.id ?? 0;
    let isAdmitted = false;
    const done = (outcome: "ok" | WireError["code"]): void =>
      this.#options.onAnswered(op, outcome, this.#options.nowMs() - startedMs);
    try {
      const request = this.#admit(peer, value);
      isAdmitted = true;
      const result = await this.#run(request, {
        peer,
        signal: channel.signal,
        progress: async (progress) => this.#tell(channel, { id, progress }),
      });
      await channel.send({ id, ok: true, result: result ?? {} });
      done("ok");
    } catch (error) {
      if (channel.signal.aborted && error instanceof MvmError) {
        done("failed");
        return;
      }
      if (!(error instanceof MvmError)) this.#options.onDefect(error);
      // What was asked for by whom may ask, and is not believed: a certificate of another CA, say.
      if (error instanceof NotTrustedError && isAdmitted) {
        this.#refuse({ ...whoIs(peer), command: op, cause: error.message });
      }
      const failure = wireError(error);
      done(failure.code);
      await channel.send({ id, error: failure });
    }
  }

  /** Who may ask is looked at before what is asked for is read. */
  #admit(peer: Peer, value: unknown): NodeRequest {
    const head = headOf(value);
    const command = head?.op.slice(0, 64) ?? "frame";
    try {
      if (!this.#greeted.has(peer)) throw new UsageError("a connection begins with Hello");
      if (head !== undefined && isNodeOperation(head.op)) {
        const { roles } = nodeOperations[head.op];
        if (!roles.includes(peer.role)) {
          throw new NotTrustedError(`a ${peer.role} may not ask for ${head.op}`);
        }
      }
      return parseNodeRequest(value);
    } catch (error) {
      if (error instanceof MvmError) {
        this.#refuse({ ...whoIs(peer), command, cause: error.message });
      }
      throw error;
    }
  }

  async #run(request: NodeRequest, call: Call): Promise<unknown> {
    const handler = this.#options.handlers[request.op] as (
      parameters: NodeRequest["parameters"],
      call: Call,
    ) => Promise<unknown>;
    return handler(request.parameters, call);
  }

  async #tell(channel: FrameChannel, frame: unknown): Promise<void> {
    try {
      await channel.send(frame);
    } catch (error) {
      // Who waits no longer is noticed by the channel's signal.
      if (!(error instanceof MvmError)) throw error;
    }
  }

  #overRateMs(connection: ServedConnection): number {
    const { peer } = connection;
    if (peer.role === "local") return 0;
    const waitMs = this.#buckets.take(`${peer.role} ${peer.id}`, this.#options.nowMs());
    if (waitMs === 0) {
      this.#overRate.delete(peer);
      return 0;
    }
    const times = (this.#overRate.get(peer) ?? 0) + 1;
    this.#overRate.set(peer, times);
    this.#refuse({ ...whoIs(peer), command: "request", cause: "asks more often than its rate" });
    if (times > maxOverRate) connection.close("you ask more often than your rate");
    return waitMs;
  }

  #refuse(refusal: Parameters<Refusals["add"]>[0]): void {
    this.#options.refusals.add(refusal).catch((error: unknown) => this.#options.onDefect(error));
  }
}

function whoIs(peer: Peer): { peer: string; address: string } {
  return { peer: `${peer.role} ${peer.id}`, address: peer.address };
}

function rateLimited(waitMs: number): WireError {
  return {
    code: "rate_limited",
    message: "you ask more often than this node allows",
    details: { retry_after_ms: waitMs, hint: "wait, or raise the node's rate limit" },
  };
}
