import type { TenantId } from "../domain/ids.ts";
import type { Role } from "../domain/roles.ts";
import type { Revision } from "../domain/revision.ts";

export interface BuildRequest {
  /** `builtin:openclaw`, `builtin:hello`, `path:/dir` or any flake reference. */
  readonly flakeRef: string;
  readonly profile: string;
  readonly role: Role;
  readonly timeoutMs: number;
  /** Keeps the builder's Nix store for this tenant's next build, and begins with what its last one kept. Default: a store of this build alone. */
  readonly storeOf?: TenantId;
  /** Lets the builder reach what lies outside this host, by a bridge of its own. Default false. */
  readonly network?: boolean;
  readonly signal?: AbortSignal;
  /** One short line for each step, for a person who waits. */
  readonly onProgress: (line: string) => void;
}

/** Turns a flake into an image in the content store, in an ephemeral builder microVM. */
export interface ImageBuilder {
  /** What the image is made of, as one name: two requests with the same key give the same image. The caller holds the build lock of it while it builds. @throws OperationError when the flake cannot be read. */
  key(request: BuildRequest): Promise<string>;
  /** The same request, while nothing it is made of has changed, answers at once from the store. @throws OperationError naming what failed and where the log is; HostLacksError before `mvm add host`. */
  build(request: BuildRequest): Promise<Revision>;
  /** What builds that died left, a line each; `sweep` would remove it. */
  leftovers(): Promise<string[]>;
  /** Removes what builders that died left: VMMs, scratch files, half-written revisions. @returns what was removed, a line each. */
  sweep(): Promise<string[]>;
  /** Removes the Nix stores that are kept for tenants which are not among these. */
  retainStores(tenants: ReadonlySet<TenantId>): Promise<void>;
}
