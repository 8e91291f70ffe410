import { nodeLog } from "../../domain/audit.ts";
import { MvmError, describeError } from "../../domain/errors.ts";
import type { NodeContext } from "../context.ts";

const quietMs = 60_000;
const maxKinds = 1000;

/** What was refused, and whom. */
export interface Refusal {
  /** `coordinator fleet-1`, or `unknown`. */
  readonly peer: string;
  readonly address: string;
  /** The operation, or `connect`. */
  readonly command: string;
  readonly cause: string;
}

/**
 * Writes refusals of the API into the node's log. One of a kind is written at once and then at most every
 * minute, with how many there were: else whoever is refused could fill the disk.
 */
export class Refusals {
  readonly #context: Pick<NodeContext, "audit" | "locks" | "clock" | "onProgress">;
  readonly #kinds = new Map<string, { writtenMs: number; unwritten: number }>();
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
    const times = this.#timesToWrite(refusal);
    if (times === 0) return;
    const { audit, locks, onProgress } = this.#context;
    const event = { type: "PeerRefused", object: nodeLog, ...refusal, times } as const;
    try {
      await locks.withNode("writing a refusal down", () => audit.append(nodeLog, event));
    } catch (error) {
      if (!(error instanceof MvmError)) throw error;
      onProgress(`${refusal.peer} was refused (${refusal.cause}): ${describeError(error)}`);
    }
  }

  /** How many refusals the next line stands for; 0 when there is none to write now. */
  #timesToWrite({ peer, command, cause }: Refusal): number {
    const nowMs = this.#context.clock.nowMs();
    const kind = JSON.stringify([peer, command, cause.slice(0, 80)]);
    const seen = this.#kinds.get(kind);
    if (seen !== undefined && nowMs - seen.writtenMs < quietMs) {
      seen.unwritten += 1;
      return 0;
    }
    if (this.#kinds.size >= maxKinds) this.#kinds.clear();
    this.#kinds.set(kind, { writtenMs: nowMs, unwritten: 0 });
    return 1 + (seen?.unwritten ?? 0);
  }
}
