import { MvmError, describeError } from "../../domain/errors.ts";
import type { AgentMetrics } from "../../ports/agent-metrics.ts";
import type { NodeInfo } from "../../ports/host-setup.ts";
import type { NodeIdentity } from "../../ports/node-identity.ts";
import { pause } from "../../ports/pause.ts";
import type { ServiceManager } from "../../ports/service-manager.ts";
import type { ConnectionService, Listener, TransportIdentity } from "../../ports/transport.ts";
import type { DesiredRequest } from "../desired/accept.ts";
import type { NodeContext } from "../context.ts";
import type { NodeOperations } from "../operations.ts";
import { announceProduction, productionView } from "../production.ts";
import { ApiServer } from "./api-server.ts";
import type { Certificates } from "./certificates.ts";
import { agentHandlers } from "./handlers.ts";
import { readingOf } from "./readings.ts";
import { type LoopStatus, ReconcileLoop } from "./reconcile-loop.ts";
import { Refusals } from "./refusals.ts";
import type { RateLimit } from "./token-bucket.ts";

/** How `mvm agent serve` was asked to serve. */
export interface AgentServeOptions {
  readonly intervalMs: number;
  /** `host:port` for coordinators. */
  readonly listen: string;
  /** Port of the metrics on the loopback; undefined for none. */
  readonly metricsPort: number | undefined;
  readonly rateLimit: RateLimit;
  /** Taken before anything else; signed or not. */
  readonly desired?: DesiredRequest | undefined;
  /** Through which hostd does what needs root; in this process without it. */
  readonly hostdSocket?: string | undefined;
}

/** What the daemon tells of itself for metrics. */
export interface AgentState {
  readonly loop: LoopStatus;
  readonly connections: number;
  readonly refusals: number;
  /** Milliseconds since 1970; null without a certificate. */
  readonly certificateExpiresAtMs: number | null;
  readonly isListening: boolean;
}

export interface AgentParts {
  readonly context: NodeContext;
  readonly node: NodeOperations;
  readonly identity: NodeIdentity;
  readonly certificates: Certificates;
  readonly info: () => Promise<NodeInfo>;
  readonly version: string;
  readonly manager: ServiceManager;
  readonly listenLocal: (service: ConnectionService) => Promise<Listener>;
  readonly listenFleet: (address: string, service: ConnectionService) => Promise<Listener>;
  readonly metrics: AgentMetrics;
  /** What the daemon takes itself. */
  readonly ownUse: () => { readonly residentBytes: number; readonly cpuSeconds: number };
  readonly note: (line: string) => void;
  /** The operator or the system wants the daemon to end. */
  readonly stop: AbortSignal;
}

const identityPollMs = 5000;
const closeGraceMs = 5000;
/** How long running actions may take after a stop; VMMs stay up in any case. */
const drainMs = 60_000;
const hourMs = 3_600_000;

/** The node's daemon: keeps the node as its document says and answers who may ask. Serves until it is told to stop. */
export async function serveAgent(parts: AgentParts, options: AgentServeOptions): Promise<void> {
  const { context, node, certificates, note, manager, stop } = parts;
  const onDefect = (error: unknown): void =>
    note(`a defect: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  // Not the identity's status: what is damaged there closes the port, and the node is looked after all the same.
  const node_id = await context.desired.nodeId();
  if (options.desired !== undefined) {
    const { generation, hash } = await node.acceptDesired(options.desired);
    note(`document ${hash.slice(0, 12)} is in force (generation ${generation})`);
  }
  const loop = new ReconcileLoop(context, { intervalMs: options.intervalMs, drainMs });
  const refusals = new Refusals(context);
  const fleet = new FleetPort(parts, options.listen);
  const api = new ApiServer({
    handlers: agentHandlers({
      context,
      node,
      loop,
      certificates,
      info: parts.info,
      onIdentityChanged: () => fleet.refresh(),
      refusalsTotal: () => refusals.total,
    }),
    nodeId: node_id,
    version: parts.version,
    rateLimit: options.rateLimit,
    refusals,
    nowMs: () => context.clock.nowMs(),
    onAnswered: (op, outcome, ms) => parts.metrics.answered(op, outcome, ms),
    onDefect,
  });
  const local = await parts.listenLocal(api);
  const ended = new AbortController();
  try {
    // Only by the one daemon of this node, and before anybody elsewhere can ask it.
    for (const line of await announceProduction(context)) note(line);
    await fleet.open(api);
    const state = (): AgentState => ({
      loop: loop.status(),
      connections: fleet.connections + local.connections,
      refusals: refusals.total,
      certificateExpiresAtMs: fleet.expiresAtMs,
      isListening: fleet.isOpen,
    });
    const endMetrics =
      options.metricsPort === undefined
        ? async () => undefined
        : await parts.metrics.serve(options.metricsPort, async () =>
            readingOf({
              state: state(),
              stats: await node.nodeStats(),
              version: parts.version,
              production: await productionView(context),
              ...parts.ownUse(),
            }),
          );
    const running = loop.run();
    const onStop = (): void => loop.stop();
    stop.addEventListener("abort", onStop, { once: true });
    if (stop.aborted) onStop();
    await manager.ready(`node ${node_id} serves`);
    note(`node ${node_id} serves on ${fleet.address ?? "no port yet"} and ${local.address}`);
    const watches = [
      every(identityPollMs, ended.signal, () => fleet.refresh(), onDefect),
      // Twice as often as is asked for, so that one word may come late.
      ...(manager.watchdogMs === undefined
        ? []
        : [every(manager.watchdogMs / 2, ended.signal, () => manager.alive(), onDefect)]),
    ];
    const closing = closeOnStop(stop, ended.signal, async () => {
      await manager.stopping();
      note("no new requests are taken; running actions end, microVMs stay up");
      await Promise.all([fleet.close(), local.close(closeGraceMs)]);
    });
    try {
      await running;
    } finally {
      ended.abort();
      await Promise.all([...watches, closing]);
      await endMetrics();
    }
  } finally {
    ended.abort();
    await Promise.all([fleet.close(), local.close(0)]);
  }
}

/** Closes the ports as soon as the daemon is told to end, or lets it be when it ends otherwise. */
async function closeOnStop(
  stop: AbortSignal,
  ended: AbortSignal,
  close: () => Promise<void>,
): Promise<void> {
  await Promise.race([aborted(stop), aborted(ended)]);
  if (stop.aborted) await close();
}

/** The port for coordinators, which is open as soon as there is a certificate and takes each new one. */
class FleetPort {
  readonly #parts: AgentParts;
  readonly #address: string;
  #service: ConnectionService | undefined;
  #listener: Listener | undefined;
  #current: TransportIdentity | undefined;
  #complainedMs = 0;
  #refreshing: Promise<void> = Promise.resolve();

  constructor(parts: AgentParts, address: string) {
    this.#parts = parts;
    this.#address = address;
  }

  expiresAtMs: number | null = null;

  get connections(): number {
    return this.#listener?.connections ?? 0;
  }

  get address(): string | undefined {
    return this.#listener?.address;
  }

  get isOpen(): boolean {
    return this.#listener !== undefined;
  }

  /** @throws HostLacksError when the address cannot be listened on. A certificate may come later. */
  async open(service: ConnectionService): Promise<void> {
    this.#service = service;
    await this.#look();
  }

  /** Looks whether the identity changed, and renews it where this node has its CA. One at a time. */
  async refresh(): Promise<void> {
    this.#refreshing = this.#lookAfter(this.#refreshing);
    await this.#refreshing;
  }

  async #lookAfter(before: Promise<void>): Promise<void> {
    // How the look before this one ended was told to whoever asked for it.
    await Promise.allSettled([before]);
    try {
      await this.#look();
    } catch (error) {
      if (!(error instanceof MvmError)) throw error;
      this.#complain(describeError(error));
    }
  }

  async close(): Promise<void> {
    this.#service = undefined;
    await Promise.allSettled([this.#refreshing]);
    const listener = this.#listener;
    this.#listener = undefined;
    await listener?.close(closeGraceMs);
  }

  async #look(): Promise<void> {
    const service = this.#service;
    if (service === undefined) return;
    const found = await this.#identity();
    if (found === undefined) return;
    // What was revoked stays so, also when the list is lost while the daemon runs.
    const revoked = new Set([...found.revoked, ...(this.#current?.revoked ?? [])]);
    const identity = { ...found, revoked };
    if (this.#listener === undefined) {
      this.#listener = await this.#parts.listenFleet(this.#address, service);
    } else if (isOther(identity, this.#current)) {
      this.#listener.useIdentity(identity);
      this.#parts.note("new connections see the node's new certificate");
    }
    this.#current = identity;
  }

  /** Without one nobody can ask; the node itself is looked after all the same. */
  async #identity(): Promise<TransportIdentity | undefined> {
    try {
      await this.#renewIfDue();
      return await this.#parts.identity.current();
    } catch (error) {
      if (!(error instanceof MvmError)) throw error;
      this.#complain(`nobody from outside can ask this node: ${describeError(error)}`);
      return undefined;
    }
  }

  async #renewIfDue(): Promise<void> {
    const { certificates, context } = this.#parts;
    const { authority, certificate, node_id } = await certificates.status();
    this.expiresAtMs = certificate === null ? null : Date.parse(certificate.expires_at);
    if (certificate === null) return;
    const nowMs = context.clock.nowMs();
    if (authority === "development" && nowMs >= Date.parse(certificate.renew_at)) {
      await certificates.rotate("agent");
    } else if (certificate.expired) {
      this.#complain(
        `the certificate of node ${node_id} ended at ${certificate.expires_at}: coordinators refuse it until it is enrolled again (mvm agent certs request)`,
      );
    }
  }

  #complain(line: string): void {
    const nowMs = this.#parts.context.clock.nowMs();
    if (Math.abs(nowMs - this.#complainedMs) < hourMs) return;
    this.#complainedMs = nowMs;
    this.#parts.note(line);
  }
}

function isOther(one: TransportIdentity, other: TransportIdentity | undefined): boolean {
  return (
    other === undefined ||
    one.certificatePem !== other.certificatePem ||
    one.caPem !== other.caPem ||
    [...one.revoked].some((serial) => !other.revoked.has(serial))
  );
}

/** Does something again and again until the signal; never twice at once. Nothing that fails ends it, or the daemon. */
async function every(
  ms: number,
  signal: AbortSignal,
  work: () => Promise<void>,
  onDefect: (error: unknown) => void,
): Promise<void> {
  let said = "";
  while (!signal.aborted) {
    try {
      await work();
      said = "";
    } catch (error) {
      // Said once for as long as it lasts.
      if (String(error) !== said) onDefect(error);
      said = String(error);
    }
    await pause(ms, signal);
  }
}

/** Resolves when the signal comes. */
async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
