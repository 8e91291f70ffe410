export interface RunOptions {
  /** After this many milliseconds the program is killed and the call fails. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** Bytes for standard input; without it standard input is /dev/null. */
  readonly input?: string | Uint8Array;
  /** Output beyond this many bytes ends the program and fails the call. Default 16 MiB. */
  readonly maxOutputBytes?: number;
  readonly cwd?: string;
  /** The whole environment of the program. Default: PATH, HOME and LC_ALL=C only. */
  readonly env?: Readonly<Record<string, string>>;
  /** Called for each line of standard output and error, for progress. */
  readonly onLine?: (line: string) => void;
}

export interface RunResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs programs of the host: never through a shell, always with a time limit and a bound. */
export interface Exec {
  /** @throws OperationError when the program ends with another code than 0, with its last output; HostLacksError when it is not installed. */
  run(program: string, args: readonly string[], options: RunOptions): Promise<RunResult>;
  /** As `run`, but any exit code is an answer. */
  tryRun(program: string, args: readonly string[], options: RunOptions): Promise<RunResult>;
}
