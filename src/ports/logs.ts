/** The logs a VMM and its guest's console write on the host. What comes back is cleaned of control characters. A log that has grown beyond its bound is replaced by its own last part, so that a reader may find another file, and a shorter one, at the same path. */
export interface Logs {
  /** The last `count` lines of a file, oldest first; none when there is no such file. */
  tail(path: string, count: number): Promise<string[]>;
}
