import { QuicTransport } from "../../src/host/quic/quic-transport.ts";
import type { QuicListener } from "../../src/host/quic/quic-listener.ts";
import type { TransportLimits } from "../../src/host/transport/limits.ts";
import { NodeClient } from "../../src/coordinator/node-client.ts";
import { ApiServer, type NodeHandlers } from "../../src/node/agent/api-server.ts";
import { type Refusal, Refusals } from "../../src/node/agent/refusals.ts";
import type { RateLimit } from "../../src/node/agent/token-bucket.ts";
import type { Connection, TransportIdentity } from "../../src/ports/transport.ts";
import { TestCa } from "./identities.ts";

export const nodeId = "0f1e2d3c-0000-4000-8000-000000000001";

/** Handlers that tell what they were asked; what is not given answers nothing. */
function handlersThat(given: Partial<NodeHandlers>): NodeHandlers {
  const nothing = async (): Promise<object> => ({});
  return {
    Reconcile: nothing,
    ReconcileSigned: nothing,
    Plan: nothing,
    NodeInfo: nothing,
    NodeStats: nothing,
    TenantList: nothing,
    InstanceList: nothing,
    WakeInstance: nothing,
    Events: nothing,
    SecretsSet: nothing,
    CertificateRequest: nothing,
    CertificateInstall: nothing,
    ...given,
  };
}

export interface ApiOptions {
  readonly handlers?: Partial<NodeHandlers>;
  readonly limits?: Partial<TransportLimits>;
  readonly rateLimit?: RateLimit;
  readonly identity?: TransportIdentity;
}

/** A node's API on a port of its own on the loopback, with real QUIC and TLS. */
export class ApiUnderTest {
  readonly ca: TestCa;
  readonly listener: QuicListener;
  readonly refusals: Refusal[] = [];
  /** Packets that made the library throw. */
  readonly faults: unknown[];
  readonly defects: unknown[];
  readonly identity: TransportIdentity;
  readonly #connections: Connection[] = [];

  private constructor(
    ca: TestCa,
    identity: TransportIdentity,
    listener: QuicListener,
    seen: { refusals: Refusal[]; faults: unknown[]; defects: unknown[] },
  ) {
    this.ca = ca;
    this.identity = identity;
    this.listener = listener;
    this.refusals = seen.refusals;
    this.faults = seen.faults;
    this.defects = seen.defects;
  }

  static async start(options: ApiOptions = {}): Promise<ApiUnderTest> {
    const ca = await TestCa.make();
    const identity = options.identity ?? (await ca.issue({ role: "node", id: nodeId }));
    const seen = { refusals: [] as Refusal[], faults: [] as unknown[], defects: [] as unknown[] };
    const service = new ApiServer({
      handlers: handlersThat(options.handlers ?? {}),
      nodeId,
      version: "0.0.0-test",
      rateLimit: options.rateLimit ?? { perSecond: 10_000, burst: 10_000 },
      refusals: {
        add: async (refusal: Refusal) => void seen.refusals.push(refusal),
      } as unknown as Refusals,
      nowMs: Date.now,
      onAnswered: () => undefined,
      onDefect: (error) => seen.defects.push(error),
    });
    const transport = new QuicTransport({
      identity: async () => identity,
      nowMs: Date.now,
      onFault: (error) => seen.faults.push(error),
      ...(options.limits === undefined ? {} : { limits: options.limits }),
    });
    const listener = await transport.listen("127.0.0.1:0", service);
    return new ApiUnderTest(ca, identity, listener, seen);
  }

  /** Connects with an identity, or with a coordinator's of this CA. */
  async connect(
    identity?: TransportIdentity,
    limits: Partial<TransportLimits> = {},
  ): Promise<Connection> {
    const shown = identity ?? (await this.ca.issue({ role: "coordinator", id: "fleet" }));
    const transport = new QuicTransport({
      identity: async () => shown,
      nowMs: Date.now,
      onFault: () => undefined,
      limits,
    });
    const connection = await transport.dial(
      { host: "127.0.0.1", port: this.listener.port },
      AbortSignal.timeout(20_000),
    );
    this.#connections.push(connection);
    return connection;
  }

  async client(identity?: TransportIdentity, role = "coordinator"): Promise<NodeClient> {
    return new NodeClient(await this.connect(identity), role as "coordinator");
  }

  async stop(): Promise<void> {
    for (const connection of this.#connections) await connection.close();
    await this.listener.close(0);
  }
}
