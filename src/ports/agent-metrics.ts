/** One figure at one time. */
export interface MetricSample {
  /** As Prometheus names it; of one kind wherever it is used. */
  readonly name: string;
  readonly help: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** What a scrape sees of the daemon. */
export interface AgentReading {
  /** Whether it does its work: it has looked at everything once, and answers those who may ask. */
  readonly ready: boolean;
  /** Why not; empty when it is. */
  readonly notReady: string;
  readonly samples: readonly MetricSample[];
}

/** Metrics of the daemon, for whoever scrapes them on this host. */
export interface AgentMetrics {
  /** Counts an answer of the API. */
  answered(op: string, outcome: string, ms: number): void;
  /** Serves `/metrics`, `/healthz` and `/readyz` on the loopback. @returns what ends it. @throws HostLacksError when the port is taken. */
  serve(port: number, read: () => Promise<AgentReading>): Promise<() => Promise<void>>;
}
