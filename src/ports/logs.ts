/** The logs a VMM and its guest's console write on the host. What comes back is cleaned of control characters. */
export interface Logs {
  /** The last `count` lines of a file, oldest first; none when there is no such file. */
  tail(path: string, count: number): Promise<string[]>;
}
