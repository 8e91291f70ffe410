import { MvmError, describeError } from "../../domain/errors.ts";
import { type Held, type Plan, endsByItself } from "../../planner/action.ts";
import type { NodeContext } from "../context.ts";
import { readInForce } from "../desired/reconcile-desired.ts";
import { type DocumentInForce, Reconciler, noDocument } from "../desired/reconciler.ts";
import { pollMs } from "../reconcile.ts";

export interface LoopOptions {
  /** How long nothing happens before everything is looked at again. */
  readonly intervalMs: number;
  /** How long running actions may take to end after `stop` before they are interrupted. */
  readonly drainMs: number;
}

/** Where a node stands with what it should be, as NodeStats tells it. */
export interface LoopStatus {
  /** `held`: nothing to do, and something is not as asked; `held` says why. */
  readonly state: "starting" | "reconciling" | "converged" | "held" | "failing" | "stopped";
  /** Of the newest signed document that was taken; null before the first. */
  readonly generation: number | null;
  /** SHA-256 of the document in force; null without one. */
  readonly hash: string | null;
  /** When everything was last looked at and planned. */
  readonly last_pass_at: string | null;
  readonly last_pass_ms: number | null;
  /** Tenants that are being worked on. */
  readonly busy: number;
  readonly held: readonly Held[];
  /** The latest failure that was not made good since. */
  readonly last_error: {
    readonly object: string;
    readonly at: string;
    readonly cause: string;
  } | null;
}

const shortestWaitMs = 200;
/** While tenants are worked on, others are looked after as often. */
const busyWaitMs = 5000;

/**
 * The daemon's work: again and again makes the node what its document and its records say. It looks at
 * once when it begins, so that VMMs that outlived the daemon before it are adopted; when a document is
 * taken; when work ends; and after each interval. Nothing that fails ends it.
 */
export class ReconcileLoop {
  readonly #context: NodeContext;
  readonly #options: LoopOptions;
  readonly #reconciler: Reconciler;
  readonly #hardStop: AbortController = new AbortController();
  readonly #listeners = new Set<(status: LoopStatus) => void>();
  #inForce: DocumentInForce = noDocument;
  #generation: number | null = null;
  #state: LoopStatus["state"] = "starting";
  #held: readonly Held[] = [];
  #lastPass: { readonly at: string; readonly ms: number } | undefined;
  #defect: LoopStatus["last_error"] = null;
  #isStopping = false;
  #wake: () => void = () => undefined;
  #isWoken = false;

  constructor(context: NodeContext, options: LoopOptions) {
    const signal = AbortSignal.any([context.signal, this.#hardStop.signal]);
    this.#context = { ...context, signal };
    this.#options = options;
    this.#reconciler = new Reconciler(this.#context);
  }

  status(): LoopStatus {
    return {
      state: this.#state,
      generation: this.#generation,
      hash: this.#inForce.hash === "" ? null : this.#inForce.hash,
      last_pass_at: this.#lastPass?.at ?? null,
      last_pass_ms: this.#lastPass?.ms ?? null,
      busy: this.#reconciler.busy,
      held: this.#held,
      last_error: this.#defect ?? this.#lastFailure(),
    };
  }

  /** Looks at everything at once, such as when a document was taken: what is under way for another ends at its next action. */
  wake(): void {
    this.#isWoken = true;
    this.#wake();
  }

  /** Tells each status after a pass, until the answer is called. */
  subscribe(listener: (status: LoopStatus) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Begins no further action; `run` ends when those that run have, or were interrupted after their time. VMMs stay. */
  stop(): void {
    this.#isStopping = true;
    this.#reconciler.end();
    this.#wake();
  }

  /** Works until `stop`. */
  async run(): Promise<void> {
    while (!this.#isStopping) {
      const waitMs = await this.#pass();
      if (!this.#isStopping) await this.#rest(waitMs);
    }
    await this.#drain();
    this.#state = "stopped";
    this.#tell();
  }

  /** @returns how long there is nothing to do. */
  async #pass(): Promise<number> {
    const { clock } = this.#context;
    const startMs = clock.nowMs();
    this.#isWoken = false;
    try {
      await this.#readDocument();
      const next = await this.#reconciler.step(this.#inForce);
      this.#defect = null;
      this.#held = next.held;
      this.#state = this.#stateOf(next);
      return this.#waitOf(next);
    } catch (error) {
      // One thing that cannot be read, or a defect, is reported; the rest of the node goes on being looked after.
      const cause = error instanceof MvmError ? describeError(error) : `a defect: ${String(error)}`;
      // It is tried again every moment: said once, not as often.
      if (this.#defect?.cause !== cause) this.#context.onProgress(`reconciling: ${cause}`);
      this.#defect = { object: "node", at: new Date(clock.nowMs()).toISOString(), cause };
      this.#state = "failing";
      return pollMs;
    } finally {
      this.#lastPass = { at: new Date(startMs).toISOString(), ms: clock.nowMs() - startMs };
      this.#tell();
    }
  }

  /** The document is read again each time: another process may have taken one. */
  async #readDocument(): Promise<void> {
    const accepted = await this.#context.desired.load();
    this.#generation = accepted?.signed?.generation ?? null;
    if ((accepted?.hash ?? "") === this.#inForce.hash) return;
    this.#inForce = readInForce(accepted);
    // What failed may have failed by what the document before it said.
    this.#reconciler.backoffs.clear();
  }

  #stateOf({ actions, held }: Plan): LoopStatus["state"] {
    if (actions.length > 0 || this.#reconciler.busy > 0) return "reconciling";
    if (held.length === 0) return "converged";
    if (held.some(({ reason }) => reason === "backoff")) return "failing";
    return held.some((wait) => endsByItself(wait)) ? "reconciling" : "held";
  }

  #waitOf({ held }: Plan): number {
    const { intervalMs } = this.#options;
    if (this.#reconciler.busy > 0) return Math.min(busyWaitMs, intervalMs);
    const nowMs = this.#context.clock.nowMs();
    const waits = held.map((wait) => {
      if (wait.reason === "waiting-for-health" || wait.reason === "start-limit") return pollMs;
      return wait.untilMs === undefined ? intervalMs : wait.untilMs - nowMs;
    });
    return Math.max(shortestWaitMs, Math.min(intervalMs, ...waits));
  }

  /** Until the time is over, work ends, or somebody wakes the loop. */
  async #rest(waitMs: number): Promise<void> {
    const over = new AbortController();
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (this.#isWoken || this.#isStopping) resolve();
    });
    const signal = AbortSignal.any([over.signal, this.#context.signal]);
    const timer = this.#context.clock.sleep(waitMs, signal);
    const ends: Promise<unknown>[] = [woken, timer];
    if (this.#reconciler.busy > 0) ends.push(this.#reconciler.settled());
    try {
      await Promise.race(ends);
    } catch (error) {
      if (!this.#context.signal.aborted) throw error;
      this.stop();
    } finally {
      over.abort();
      await Promise.allSettled([timer]);
    }
  }

  async #drain(): Promise<void> {
    const over = new AbortController();
    const timer = this.#context.clock.sleep(this.#options.drainMs, over.signal).then(
      () => this.#hardStop.abort(new Error("the daemon ends")),
      () => undefined,
    );
    await this.#reconciler.idle();
    over.abort();
    await timer;
  }

  #lastFailure(): LoopStatus["last_error"] {
    const failures = [...this.#reconciler.backoffs.entries].map(([object, backoff]) => ({
      object,
      at: new Date(backoff.failedAtMs).toISOString(),
      cause: backoff.cause,
    }));
    return failures.toSorted((a, b) => (a.at < b.at ? 1 : -1))[0] ?? null;
  }

  #tell(): void {
    const status = this.status();
    for (const listener of this.#listeners) listener(status);
  }
}
