import { type IncomingMessage, type Server, type ServerResponse, createServer } from "node:http";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { HostLacksError, MvmError, describeError } from "../domain/errors.ts";
import type { AgentMetrics, AgentReading } from "../ports/agent-metrics.ts";

const requestTimeoutMs = 10_000;

/** Metrics of the daemon in Prometheus' text form on a port of the loopback; docs/metrics.md lists them. */
export class MetricsServer implements AgentMetrics {
  readonly #registry = new Registry();
  readonly #requests: Counter<"op" | "outcome">;
  readonly #durations: Histogram<"op">;
  readonly #gauges = new Map<string, Gauge>();

  readonly #onDefect: (error: unknown) => void;

  constructor(onDefect: (error: unknown) => void) {
    this.#onDefect = onDefect;
    const registers = [this.#registry];
    this.#requests = new Counter({
      name: "mvm_api_requests_total",
      help: "Requests to the node's API by operation and outcome",
      labelNames: ["op", "outcome"],
      registers,
    });
    this.#durations = new Histogram({
      name: "mvm_api_request_seconds",
      help: "How long answers of the node's API took",
      labelNames: ["op"],
      buckets: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120],
      registers,
    });
  }

  answered(op: string, outcome: string, ms: number): void {
    this.#requests.inc({ op, outcome });
    this.#durations.observe({ op }, ms / 1000);
  }

  async serve(port: number, read: () => Promise<AgentReading>): Promise<() => Promise<void>> {
    const server = createServer((request, response) => {
      this.#respond(request, response, read).catch((error: unknown) => {
        this.#onDefect(error);
        response.destroy();
      });
    });
    server.requestTimeout = requestTimeoutMs;
    server.headersTimeout = requestTimeoutMs;
    server.maxConnections = 16;
    await listen(server, port);
    return async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    };
  }

  async #respond(
    request: IncomingMessage,
    response: ServerResponse,
    read: () => Promise<AgentReading>,
  ): Promise<void> {
    const { status, text } = await this.#answer(request.method ?? "", request.url ?? "", read);
    response.writeHead(status, { "content-type": "text/plain; version=0.0.4" });
    response.end(text);
  }

  async #answer(
    method: string,
    path: string,
    read: () => Promise<AgentReading>,
  ): Promise<{ status: number; text: string }> {
    if (method !== "GET") return { status: 405, text: "only GET\n" };
    // That this answers is the health that it tells of.
    if (path === "/healthz") return { status: 200, text: "ok\n" };
    if (path !== "/readyz" && path !== "/metrics") return { status: 404, text: "not found\n" };
    let reading: AgentReading;
    try {
      reading = await read();
    } catch (error) {
      if (!(error instanceof MvmError)) throw error;
      return { status: 503, text: `${describeError(error)}\n` };
    }
    if (path === "/readyz") {
      return reading.ready
        ? { status: 200, text: "ready\n" }
        : { status: 503, text: `not ready: ${reading.notReady}\n` };
    }
    this.#fill(reading);
    return { status: 200, text: await this.#registry.metrics() };
  }

  #fill({ samples }: AgentReading): void {
    for (const gauge of this.#gauges.values()) gauge.reset();
    for (const { name, help, labels, value } of samples) {
      const known = this.#gauges.get(name);
      const gauge =
        known ??
        new Gauge({
          name,
          help,
          labelNames: Object.keys(labels),
          registers: [this.#registry],
        });
      this.#gauges.set(name, gauge);
      gauge.set(labels, value);
    }
  }
}

async function listen(server: Server, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(
        new HostLacksError(`cannot serve metrics on 127.0.0.1:${port}`, {
          cause,
          hint: "give another port with --metrics-port, or 0 for none",
        }),
      ),
    );
    server.listen(port, "127.0.0.1", resolve);
  });
}
