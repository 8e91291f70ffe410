import { nodeLog } from "../../domain/audit.ts";
import { MvmError, describeError } from "../../domain/errors.ts";
import type { NodeContext } from "../context.ts";
import { Repeats } from "../repeats.ts";

/** What was refused, and whom. */
export interface Refusal {
  /** `coordinator fleet-1`, or `unknown`. */
  readonly peer: string;
  readonly address: string;
  /** The operation, or `connect`. */
  readonly command: string;
  readonly cause: string;
}

/** Writes refusals of the API into the node's log, equal ones at most every minute; see `Repeats`. */
export class Refusals {
  readonly #context: Pick<NodeContext, "audit" | "locks" | "clock" | "onProgress">;
  readonly #repeats = new Repeats();
  #total = 0;

  constructor(context: Pick<NodeContext, "audit" | "locks" | "clock" | "onProgress">) {
    this.#context = context;
  }

  /** Refusals since the start. */
  get total(): number {
    return this.#total;
  }

  /** A refusal that cannot be written down is a refusal all the same, and is said on the daemon's own log. */
  async add(refusal: Refusal): Promise<void> {
    this.#total += 1;
    const { audit, locks, clock, onProgress } = this.#context;
    const { peer, command, cause } = refusal;
    const kind = JSON.stringify([command, cause.slice(0, 80)]);
    const times = this.#repeats.timesToWrite(peer, kind, clock.nowMs());
    if (times === 0) return;
    const event = { type: "PeerRefused", object: nodeLog, ...refusal, times } as const;
    try {
      await locks.withNode("writing a refusal down", () => audit.append(nodeLog, event));
    } catch (error) {
      if (!(error instanceof MvmError)) throw error;
      onProgress(`${refusal.peer} was refused (${refusal.cause}): ${describeError(error)}`);
    }
  }
}
