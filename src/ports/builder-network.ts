/** What a builder microVM has of a network; addresses are dotted quads. */
export interface BuilderLink {
  readonly tap: string;
  readonly mac: string;
  /** CIDR of the guest's own address. */
  readonly guest: string;
  readonly gateway: string;
  /** DNS servers that it may ask. */
  readonly resolvers: readonly string[];
}

/** A bridge of its own for each build that may use a network: it leads outside, and to no tenant and no service of the host. `open` and `close` take the node lock. */
export interface BuilderNetwork {
  /** Names follow from the build's id. @throws HostLacksError when the host has no resolver that a guest can ask. */
  open(buildId: string): Promise<BuilderLink>;
  /** Removes what `open` made; what is gone already is no error. */
  close(buildId: string): Promise<void>;
  /** Ids of builds whose links or rules are there, whether or not the build still lives. */
  list(): Promise<string[]>;
}
