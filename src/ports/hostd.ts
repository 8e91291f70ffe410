import type { Duplex } from "node:stream";
import type { HostdAnswer, HostdOp, HostdRequest } from "../protocol/hostd-operations.ts";

/** One request to hostd, besides what it asks. */
export interface HostdCall {
  /** Aborted when agentd takes the request back. */
  readonly cancelled: AbortSignal;
  /** Aborted when agentd takes the request back, or has gone. */
  readonly unwanted: AbortSignal;
  progress(line: string): void;
  /** What is done with the connection once the answer is on its way; the connection ends when it does. */
  afterAnswer(work: (connection: Duplex) => Promise<void>): void;
}

/** What answers each operation of the table. @throws MvmError, which agentd gets as it is. */
export type HostdHandlers = {
  readonly [K in HostdOp]: (request: HostdRequest<K>, call: HostdCall) => Promise<HostdAnswer<K>>;
};
