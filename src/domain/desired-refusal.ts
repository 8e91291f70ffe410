import { type ErrorCode, MvmError, type MvmErrorOptions } from "./errors.ts";

/** Why a node does not take a desired-state document. */
export type RefusalReason =
  /** It is not of the form it should have. */
  | "malformed"
  /** Production takes only what a coordinator signed. */
  | "unsigned"
  | "unknown-key"
  | "bad-signature"
  | "wrong-node"
  | "expired"
  /** A newer one was taken before. */
  | "old-generation"
  /** Another document of the same generation was taken before. */
  | "generation-conflict"
  /** What it asks for belongs to something that this node has. */
  | "clash";

const codes: Readonly<Record<RefusalReason, ErrorCode>> = {
  malformed: "usage",
  unsigned: "not_trusted",
  "unknown-key": "not_trusted",
  "bad-signature": "not_trusted",
  "wrong-node": "not_trusted",
  expired: "not_trusted",
  "old-generation": "conflict",
  "generation-conflict": "conflict",
  clash: "conflict",
};

/** A desired-state document that is not taken; nothing has changed. */
export class DesiredRefusedError extends MvmError {
  readonly reason: RefusalReason;

  constructor(reason: RefusalReason, message: string, options: MvmErrorOptions = {}) {
    super(codes[reason], message, options);
    this.reason = reason;
  }
}
