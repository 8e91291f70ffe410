/** What a guest may cost the host, and how long it may take. A guest is never trusted to be fair. */
export interface GuestLinkLimits {
  /** Bytes one command may print; more ends it. */
  readonly maxExecOutputBytes: number;
  /** Above this rate the host stops reading for a moment; the guest has to wait. */
  readonly maxBytesPerSecond: number;
  /** An ordinary request is answered within this. */
  readonly requestTimeoutMs: number;
  /** `Health` waits for the services' own answers. */
  readonly healthTimeoutMs: number;
  /** One try to begin a session. */
  readonly helloTimeoutMs: number;
  /** Between two tries. */
  readonly retryDelayMs: number;
}

export const defaultGuestLinkLimits: GuestLinkLimits = {
  maxExecOutputBytes: 256 * 1024 * 1024,
  maxBytesPerSecond: 64 * 1024 * 1024,
  requestTimeoutMs: 10_000,
  healthTimeoutMs: 20_000,
  helloTimeoutMs: 3000,
  retryDelayMs: 300,
};

/** Bytes sent to a guest that does not read them; more ends the session. */
export const maxUnsentBytes: number = 4 * 1024 * 1024;

/** Each message of output counts as at least this, so that empty ones are bounded too. */
export const minOutputCostBytes = 64;

/** How long a command may take to be reported after its own time limit. */
export const execAnswerGraceMs = 5000;

/** While a command runs the agent is asked this often whether it still lives. */
export const keepAliveMs = 5000;
