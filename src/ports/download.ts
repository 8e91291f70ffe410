export interface DownloadOptions {
  /** For the whole answer, not only until it begins. */
  readonly timeoutMs: number;
  /** An answer with more bytes fails the call. */
  readonly maxBytes: number;
  /** The form that is asked for, as in an Accept header. */
  readonly accept?: string;
  readonly signal?: AbortSignal;
}

/** Fetches from servers of other people. What comes is theirs: callers check it. */
export interface Download {
  /**
   * The bytes of a URL, as they come. @throws NotFoundError when the server says there is no such thing;
   * OperationError when it cannot be reached, answers otherwise, is too slow or sends too much.
   */
  get(url: string, options: DownloadOptions): AsyncIterable<Uint8Array>;
}
