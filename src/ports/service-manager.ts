/** Whoever started this daemon and watches it, such as systemd. Without one, telling it anything does nothing. */
export interface ServiceManager {
  /** The daemon serves. @param status one line for people. */
  ready(status: string): Promise<void>;
  /** The daemon ends in good order. */
  stopping(): Promise<void>;
  /** The daemon is alive; to be said at least as often as `watchdogMs`. */
  alive(): Promise<void>;
  /** How long it may be silent before it is taken for stuck; undefined when nobody watches. */
  readonly watchdogMs: number | undefined;
}
