import type { InstanceAddress } from "../domain/ids.ts";

/** The logs a VMM and its guest's console write on the host. What comes back is cleaned of control characters. A log that has grown beyond its bound is replaced by its own last part, so that a later answer may not go on where an earlier one ended. */
export interface Logs {
  /** The last `count` lines of an instance's console, oldest first; none when it has no log. */
  console(instance: InstanceAddress, count: number): Promise<string[]>;
}
