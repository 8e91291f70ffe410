/** Disk space that is kept back for commands that end things, so that a full disk never keeps what filled it. */
export interface DiskReserve {
  /** Takes the space where there is enough; where there is not, nothing is taken and that is no error. */
  keep(): Promise<void>;
  /** Gives it up. @returns whether there was any. */
  release(): Promise<boolean>;
}
