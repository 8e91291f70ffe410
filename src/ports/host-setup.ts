import type { ProductionView } from "../domain/production.ts";

/** How this host stands in one respect. */
export interface Finding {
  readonly feature: string;
  readonly status: "ok" | "missing" | "warning";
  readonly detail: string;
  /** The command or step that mends it; empty when all is well. */
  readonly fix: string;
}

export interface Leak {
  readonly kind:
    | "vmm"
    | "bridge"
    | "tap"
    | "mount"
    | "run-folder"
    | "dns"
    | "filter"
    | "namespace"
    | "build"
    | "key"
    | "temporary-file";
  readonly name: string;
  readonly detail: string;
}

/** What a node is and has. */
export interface NodeInfo extends ProductionView {
  readonly node_id: string | null;
  readonly version: string;
  readonly architecture: string;
  readonly vcpus: number;
  readonly memory_mib: number;
  readonly vmm: string | null;
  readonly vmm_version: string | null;
  readonly accelerator: string | null;
  readonly kvm: boolean;
  readonly cgroup_v2: boolean;
  /** Whether VMMs run in a jail. */
  readonly jailer: boolean;
  /** Who vouches for this machine's hardware and boot; `none` says that nobody does. */
  readonly attestation: string;
  readonly certificate_expires_at: string | null;
  readonly prepared: boolean;
}

/** What `mvm add host` is asked for. */
export interface PrepareOptions {
  /** PEM of the certificate of a CA elsewhere, whose node this becomes; else what it is, or of a development CA. */
  readonly caCertificate?: string | undefined;
  /** A coordinator's Ed25519 public key, 32 bytes: added to those this node believes. */
  readonly signingKey?: Uint8Array | undefined;
  /** Makes it a node of production for good. */
  readonly production: boolean;
  readonly vmm: "auto" | "firecracker" | "qemu";
}

/** Prepares this machine to be a node, and tells how it stands. */
export interface HostSetup {
  /**
   * Installs and makes what is missing and leaves the rest alone; one that died goes on. What cannot be
   * done is refused before anything is changed. @returns what it did, a line each. @throws HostLacksError
   * on a machine that cannot be a node; NotTrustedError for a CA that is none; ConflictError when this
   * node belongs to another CA; UsageError when production lacks something that is given by a flag.
   */
  prepare(options: PrepareOptions, signal: AbortSignal): Promise<string[]>;
  diagnose(): Promise<Finding[]>;
  /** What is on this host without a record that owns it. */
  leaks(): Promise<Leak[]>;
  info(): Promise<NodeInfo>;
}
