import { HostLacksError, UsageError } from "./errors.ts";

/** The names of all promises there are. */
export type PromiseName =
  | "signature"
  | "mtls"
  | "tenant-isolation"
  | "pinned-downloads"
  | "vmm-sandbox"
  | "runtime-isolation"
  | "cgroup-v2"
  | "no-plain-swap"
  | "no-core-dumps"
  | "encryption"
  | "privilege-separation"
  | "audit";

interface Promised {
  readonly says: string;
  /** Whether an operator may do without it on one host for a time. */
  readonly waivable: boolean;
}

const promises: Readonly<Record<PromiseName, Promised>> = {
  signature: {
    says: "only desired state that a believed coordinator signed is accepted",
    waivable: false,
  },
  mtls: {
    says: "node and coordinator know each other by certificates of a CA elsewhere, over TLS 1.3",
    waivable: false,
  },
  "tenant-isolation": {
    says: "what keeps tenants' networks apart is in place before an instance starts",
    waivable: false,
  },
  "pinned-downloads": {
    says: "every download is checked against a pinned SHA-256 before it is used",
    waivable: true,
  },
  "vmm-sandbox": {
    says: "a VMM runs as a user of its own, without capabilities, under seccomp",
    waivable: true,
  },
  "runtime-isolation": {
    says: "a VMM runs in a chroot, mount and pid namespaces of its own, with no network but its TAP",
    waivable: true,
  },
  "cgroup-v2": {
    says: "a VMM's memory, CPU, processes and I/O are bounded by a cgroup of its own",
    waivable: true,
  },
  "no-plain-swap": {
    says: "what guests hold in memory is not written to a disk as it is",
    waivable: true,
  },
  "no-core-dumps": {
    says: "what VMMs and mvm hold in memory is not written to a disk when they crash",
    waivable: true,
  },
  encryption: {
    says: "snapshots and data disks are encrypted with their tenant's key",
    waivable: true,
  },
  "privilege-separation": {
    says: "what answers the network has no privileges; hostd does the little that needs root",
    waivable: true,
  },
  audit: {
    says: "what happens is in a log that is hash-chained and signed with the node's key",
    waivable: true,
  },
};

/** All promises there are; the list is closed. */
export const promiseNames: readonly PromiseName[] = Object.keys(promises) as PromiseName[];

/** The promises that a waiver may name. Without signature, mTLS or tenant isolation a node is anybody's. */
export const waivablePromises: readonly PromiseName[] = promiseNames.filter(
  (name) => promises[name].waivable,
);

/** The name in a waiver. @throws UsageError for a name of no promise, and of one that nobody may do without. */
export function parseWaivablePromise(text: string): PromiseName {
  const name = promiseNames.find((each) => each === text);
  if (name === undefined) {
    throw new UsageError(
      `there is no promise ${JSON.stringify(text.slice(0, 64))}; a waiver can name ${waivablePromises.join(", ")}`,
    );
  }
  if (promises[name].waivable) return name;
  throw new UsageError(`${name} cannot be waived on any host`);
}

/** What a promise says, as the rest of a sentence. */
export function promiseText(name: PromiseName): string {
  return promises[name].says;
}

/** What was found on a host about one promise. */
export interface PromiseFact {
  readonly kept: boolean;
  /** What was found, for a person. */
  readonly detail: string;
  /** What would mend it; empty when it is kept. */
  readonly fix: string;
}

export type PromiseFacts = Readonly<Record<PromiseName, PromiseFact>>;

/** An operator does without a promise on this host until a time. */
export interface Waiver {
  readonly promise: PromiseName;
  readonly reason: string;
  /** Milliseconds since 1970, the first at which it does not hold any more. */
  readonly untilMs: number;
}

/** What a look at a host tells, before it is judged. */
export interface ProductionFindings {
  readonly facts: PromiseFacts;
  /** As they are in the file, ended ones too; none when the file cannot be used. */
  readonly waivers: readonly Waiver[];
  /** Where waivers are, for who reads of them. */
  readonly waiversPath: string;
  /** Why the file cannot be used as a whole; null when it can, or there is none. */
  readonly waiversProblem: string | null;
}

/** How one promise stands: kept on this host, done without for a time, or in the way of every start. */
export interface PromiseStanding extends PromiseFact {
  readonly promise: PromiseName;
  readonly state: "enforced" | "waived" | "lacking";
  /** The waiver that names it, also an unneeded or an ended one. */
  readonly waiver: Waiver | undefined;
}

/** How each promise stands at a time, in the order of `promiseNames`. */
export function judgePromises(
  { facts, waivers }: Pick<ProductionFindings, "facts" | "waivers">,
  nowMs: number,
): PromiseStanding[] {
  return promiseNames.map((promise) => {
    const fact = facts[promise];
    const waiver = waivers.find((each) => each.promise === promise);
    // Who hands in waivers has refused this already; it is too much to rest on that alone.
    const isWaived = promises[promise].waivable && waiver !== undefined && waiver.untilMs > nowMs;
    return {
      ...fact,
      promise,
      state: fact.kept ? "enforced" : isWaived ? "waived" : "lacking",
      waiver,
    };
  });
}

/** A waiver as answers and audit lines show it. */
export interface WaiverView {
  readonly promise: PromiseName;
  readonly reason: string;
  readonly until: string;
  /** Whether the host would lack the promise without it. */
  readonly needed: boolean;
}

/** What a node tells of its production mode. In development there are no promises, and nothing is waived. */
export interface ProductionView {
  readonly production: boolean;
  readonly enforced: readonly PromiseName[];
  /** Those that hold now. */
  readonly waivers: readonly WaiverView[];
  /** Promises that are in the way of every start. */
  readonly lacking: readonly PromiseName[];
  readonly waivers_problem: string | null;
}

/** What a node of development tells. */
export const developmentView: ProductionView = {
  production: false,
  enforced: [],
  waivers: [],
  lacking: [],
  waivers_problem: null,
};

export function viewProduction(findings: ProductionFindings, nowMs: number): ProductionView {
  const standings = judgePromises(findings, nowMs);
  const namesOf = (state: PromiseStanding["state"]): PromiseName[] =>
    standings.filter((each) => each.state === state).map(({ promise }) => promise);
  return {
    production: true,
    enforced: namesOf("enforced"),
    waivers: standings.flatMap(({ promise, state, waiver }) =>
      waiver === undefined || waiver.untilMs <= nowMs
        ? []
        : [
            {
              promise,
              reason: waiver.reason,
              until: new Date(waiver.untilMs).toISOString(),
              needed: state === "waived",
            },
          ],
    ),
    lacking: namesOf("lacking"),
    waivers_problem: findings.waiversProblem,
  };
}

/** A line for each promise, as a start says them. */
export function describeStandings(standings: readonly PromiseStanding[]): string[] {
  return standings.map((standing) => {
    switch (standing.state) {
      case "enforced":
        return `enforced: ${standing.promise}: ${promiseText(standing.promise)}`;
      case "waived":
        return `WAIVED: ${describeStanding(standing)}`;
      case "lacking":
        return `NOT ENFORCED: ${describeStanding(standing)}`;
    }
  });
}

/** One promise that is not kept, with its waiver. */
export function describeStanding({ promise, detail, waiver }: PromiseStanding): string {
  if (waiver === undefined) return `${promise}: ${detail}`;
  const until = new Date(waiver.untilMs).toISOString();
  return `${promise}: ${detail} (waiver until ${until}: ${waiver.reason})`;
}

/** In production nothing that runs guests' code is started while a promise is not kept. */
export class PromiseLackingError extends HostLacksError {
  readonly promises: readonly PromiseName[];

  /** `lacking` is not empty. */
  constructor(lacking: readonly PromiseStanding[], findings: ProductionFindings) {
    const { waiversPath, waiversProblem } = findings;
    const found = lacking.map(({ promise, detail, waiver }) =>
      waiver === undefined
        ? `${promise} (${detail})`
        : `${promise} (${detail}; its waiver ended at ${new Date(waiver.untilMs).toISOString()})`,
    );
    const problem = waiversProblem === null ? "" : `; no waiver holds: ${waiversProblem}`;
    super(
      `in production no microVM starts while a promise is not kept: ${found.join(", ")}${problem}`,
      { hint: waysOut(lacking, waiversPath) },
    );
    this.promises = lacking.map(({ promise }) => promise);
  }
}

/** @throws PromiseLackingError when a promise is neither kept nor waived at that time. */
export function requireKept(findings: ProductionFindings, nowMs: number): void {
  const lacking = judgePromises(findings, nowMs).filter(({ state }) => state === "lacking");
  if (lacking.length > 0) throw new PromiseLackingError(lacking, findings);
}

/** Mending comes first; a waiver only helps when it may name all that is lacking. */
function waysOut(lacking: readonly PromiseStanding[], waiversPath: string): string {
  const mend = "mend it: `mvm doctor` says how";
  const fixed = lacking.filter(({ promise }) => !promises[promise].waivable);
  return fixed.length === 0
    ? `${mend}; or do without it for a time: a waiver by name in ${waiversPath} (docs/production.md)`
    : `${mend}; no waiver can name ${fixed.map(({ promise }) => promise).join(", ")} (docs/production.md)`;
}
