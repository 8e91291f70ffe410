/** What lies in the folders and the mount table of a host that are mvm's, owned by anything or not. */
export interface HostInventory {
  found(): Promise<FoundOnHost>;
}

export interface FoundOnHost {
  /** Names in the folder of instances' run folders. */
  readonly runFolders: readonly string[];
  /** Mount points of instances' run folders, by the names of these. */
  readonly mounts: readonly string[];
  /** Guests that a preparation of this host probed with. */
  readonly probes: readonly { readonly id: string; readonly pid: number }[];
  /** Names in the folder of tenants' keys. */
  readonly keyFiles: readonly string[];
  /** Paths of files that writers left half-written, a minute old at least. */
  readonly temporaryFiles: readonly string[];
}
